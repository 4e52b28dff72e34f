//! Parses numbers in the form that nearly all tables use, faster than a general parser and with bit-identical results.

/// The powers of ten that are exact in 64-bit floating point.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Every integer with this many digits is exact in 64-bit floating point.
const MOST_DIGITS: usize = 15;

/// Parses the number at the start of a text and returns it with its length: digits with at most one decimal point among
/// or before them, optionally with a minus, at most 15 digits in all and no exponent. Such a number is a quotient of
/// two exact numbers, so dividing them rounds once, as correct parsing does (Clinger 1990). Returns `None` for all
/// other text, which may still be a number.
#[inline]
pub(super) fn plain_number(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (mut number, mut rest) = digits(unsigned, 0);
    let whole = unsigned.len() - rest.len();
    let mut fraction = 0;
    if let [b'.', behind @ ..] = rest {
        (number, rest) = digits(behind, number);
        fraction = behind.len() - rest.len();
    }
    if whole + fraction == 0 || whole + fraction > MOST_DIGITS {
        return None;
    }
    let exact = number as f64;
    let magnitude = if fraction == 0 { exact } else { exact / POWERS[fraction] };
    Some((if negative { -magnitude } else { magnitude }, text.len() - rest.len()))
}

/// Appends the digits at the start of a text to a number; also returns the text after them. With too many digits the
/// number is arbitrary.
#[inline]
fn digits(text: &[u8], before: u64) -> (u64, &[u8]) {
    let (mut number, mut rest) = (before, text);
    while let Some(word) = rest.first_chunk() {
        let (value, count) = digits_of_word(u64::from_le_bytes(*word));
        number = number.wrapping_mul(INTEGER_POWERS[count]).wrapping_add(value);
        rest = &rest[count..];
        if count < 8 {
            return (number, rest);
        }
    }
    while let [byte, behind @ ..] = rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        rest = behind;
    }
    (number, rest)
}

/// The powers of ten by which up to eight digits shift a number.
const INTEGER_POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Returns the number formed by the digits at the start of eight bytes, the first of which is the lowest, and their
/// count. All eight are handled at once: digits are added in pairs, then pairs of pairs, then both halves.
#[inline]
fn digits_of_word(word: u64) -> (u64, usize) {
    let values = word ^ 0x3030_3030_3030_3030;
    // A byte that is no digit is above 9, which its high half shows, at once or after adding 6. Carries reach only later
    // bytes.
    let others = (values | values.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0;
    let count = others.trailing_zeros() as usize / 8;
    if count == 0 {
        return (0, 0);
    }
    // Moves the digits to the end, behind zeros.
    let digits = values << (64 - 8 * count);
    let pairs = (digits.wrapping_mul(10 * 256 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32, count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::plain_number;

    proptest! {
        #[test]
        fn numbers_have_the_bits_that_reading_them_gives(text in "-?[0-9]{0,17}\\.?[0-9]{0,17}[,a-z/:]?[0-9,\u{e9}]{0,9}") {
            match plain_number(text.as_bytes()) {
                Some((number, length)) => {
                    let read: f64 = text[..length].parse().unwrap();
                    prop_assert_eq!(number.to_bits(), read.to_bits());
                    let next = text[length..].chars().next();
                    prop_assert!(next.is_none_or(|letter| !letter.is_ascii_digit()), "{}", text);
                }
                None => {
                    let number = text.split(|letter: char| !"-.0123456789".contains(letter)).next().unwrap_or_default();
                    let digits = number.chars().filter(char::is_ascii_digit).count();
                    prop_assert!(digits == 0 || digits > 15, "{}", text);
                }
            }
        }
    }

    #[test]
    fn what_is_no_plain_number_is_left_to_others() {
        for text in ["", "-", ".", "-.", "+1", "inf", "nan", " 1", "1234567890123456"] {
            assert_eq!(plain_number(text.as_bytes()), None, "{text}");
        }
        // The caller checks what follows.
        assert_eq!(plain_number(b"1.2.3"), Some((1.2, 3)));
        assert_eq!(plain_number(b"1e5"), Some((1.0, 1)));
        assert_eq!(
            plain_number(b"-0,").map(|(number, length)| (number.to_bits(), length)),
            Some(((-0.0_f64).to_bits(), 2))
        );
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::plain_number;

    proptest! {
        #[test]
        fn numbers_have_the_bits_that_reading_them_gives(text in "-?[0-9]{0,9}\\.?[0-9]{0,9}[,a-z]?") {
            match plain_number(text.as_bytes()) {
                Some((number, length)) => {
                    let read: f64 = text[..length].parse().unwrap();
                    prop_assert_eq!(number.to_bits(), read.to_bits());
                    let next = text[length..].chars().next();
                    prop_assert!(next.is_none_or(|letter| !letter.is_ascii_digit()), "{}", text);
                }
                None => {
                    let digits = text.chars().filter(char::is_ascii_digit).count();
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

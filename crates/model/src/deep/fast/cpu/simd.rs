//! Which vector instructions this processor has, and the one way to run code with them. All `unsafe` code of
//! the fast engine is here: calling a function compiled for AVX2 and FMA, which is sound exactly when the
//! processor has both, and a [`Level`] that says so comes only from [`Level::detect`].
//!
//! The body given to [`vectorised!`] is ordinary safe Rust over slices, compiled twice: for AVX2 and FMA,
//! where the compiler vectorises it, and for any processor. The two round differently (a fused
//! multiply-add rounds once), so results are the same bits on machines of one kind, not across kinds.

/// The instructions to use; can only be made by asking the processor, or for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    avx2: bool,
}

impl Level {
    /// The best that this processor has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        #[cfg(not(target_arch = "x86_64"))]
        let avx2 = false;
        Self { avx2 }
    }

    /// What runs everywhere.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self { avx2: false }
    }

    /// Whether AVX2 and FMA are there.
    #[inline(always)]
    pub(crate) fn has_avx2(self) -> bool {
        self.avx2
    }
}

/// `a * b + c`, rounded once where the processor does that in one instruction.
#[inline(always)]
pub(crate) fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Calls a function with `#[target_feature(enable = "avx2,fma")]`, or another where the processor lacks them.
#[cfg(target_arch = "x86_64")]
macro_rules! with_avx2 {
    ($level:expr, $fast:expr, $portable:expr) => {
        if $level.has_avx2() {
            #[allow(unsafe_code)]
            // SAFETY: the function needs AVX2 and FMA and nothing else, and a `Level` says that they are there
            // only when the processor was asked.
            let result = unsafe { $fast };
            result
        } else {
            $portable
        }
    };
}

/// Other processors have the portable code only.
#[cfg(not(target_arch = "x86_64"))]
macro_rules! with_avx2 {
    ($level:expr, $fast:expr, $portable:expr) => {{
        let _ = $level;
        $portable
    }};
}

/// Declares a function whose body is compiled for AVX2 and FMA and for any processor; its first argument
/// is the [`Level`] that decides which runs. The body may use the constant `FUSED` with [`fused`].
macro_rules! vectorised {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name(level: $crate::deep::fast::cpu::simd::Level, $($argument: $type),*) $(-> $output)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, clippy::extra_unused_type_parameters)]
            fn body<const FUSED: bool>($($argument: $type),*) $(-> $output)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($argument: $type),*) $(-> $output)? {
                body::<true>($($argument),*)
            }
            $crate::deep::fast::cpu::simd::with_avx2!(level, avx2($($argument),*), body::<false>($($argument),*))
        }
    };
}

pub(crate) use {vectorised, with_avx2};

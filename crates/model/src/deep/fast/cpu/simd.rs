//! Detection of the CPU's vector instructions, and the only way to run code that uses them. All `unsafe` code of the
//! CPU device is here: calling a function compiled for AVX2 and FMA, which is sound exactly if the CPU has both. A
//! [`Level`] that permits this is only returned by [`Level::detect`].
//!
//! The body given to [`vectorised!`] is ordinary safe Rust over slices, compiled twice: for AVX2 and FMA, where the
//! compiler vectorises it, and for any CPU. The two round differently (a fused multiply-add rounds once), so results
//! are bitwise identical on CPUs of the same kind, but not across kinds.

/// The vector instructions to use; obtained by detection, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    avx2: bool,
}

impl Level {
    /// Returns the highest level that this CPU supports.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        #[cfg(not(target_arch = "x86_64"))]
        let avx2 = false;
        Self { avx2 }
    }

    /// Returns the level that every CPU supports.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self { avx2: false }
    }

    /// Whether AVX2 and FMA are available.
    #[inline(always)]
    pub(crate) fn has_avx2(self) -> bool {
        self.avx2
    }
}

/// Computes `a * b + c`, rounded once if `FUSED`, in one instruction.
#[inline(always)]
pub(crate) fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Calls a function with `#[target_feature(enable = "avx2,fma")]`, or the portable one if the CPU lacks these features.
#[cfg(target_arch = "x86_64")]
macro_rules! with_avx2 {
    ($level:expr, $fast:expr, $portable:expr) => {
        if $level.has_avx2() {
            #[allow(unsafe_code)]
            // SAFETY: the function requires only AVX2 and FMA, and a `Level` reports them only after detecting them on
            // this CPU.
            let result = unsafe { $fast };
            result
        } else {
            $portable
        }
    };
}

/// Other architectures only have the portable code.
#[cfg(not(target_arch = "x86_64"))]
macro_rules! with_avx2 {
    ($level:expr, $fast:expr, $portable:expr) => {{
        let _ = $level;
        $portable
    }};
}

/// Declares a function whose body is compiled both for AVX2 and FMA and for any CPU; its first argument is the
/// [`Level`] that selects one of them. The body may use the constant `FUSED` with [`fused`].
macro_rules! vectorised {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block) => {
        $(#[$meta])*
        $visibility fn $name(level: $crate::deep::fast::cpu::simd::Level, $($argument: $type),*) $(-> $output)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn body<const FUSED: bool>($($argument: $type),*) $(-> $output)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $output)? {
                body::<true>($($argument),*)
            }
            $crate::deep::fast::cpu::simd::with_avx2!(level, avx2($($argument),*), body::<false>($($argument),*))
        }
    };
}

pub(crate) use {vectorised, with_avx2};

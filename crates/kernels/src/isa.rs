//! Which instructions a body is written in, and which of them this processor has.

use std::fmt;
use std::str::FromStr;

/// An instruction set that the kernels have bodies for; each asks for what those before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: runs anywhere, and is the oracle of the others.
    Scalar,
    /// AVX2 with FMA and F16C: every x86 server and desktop since 2015.
    Avx2,
    /// AVX-512 with VNNI: Cascade Lake and later, Zen 4 and later. Processors with AVX-512 but without VNNI run the
    /// AVX2 bodies.
    Avx512,
    /// That and products of BF16: Zen 4 and later. Intel's processors have these products from Cooper Lake on, but
    /// multiply twice as much in f32; so there they are used only where they are asked for.
    Avx512Bf16,
    /// That and AMX tiles of int8 and BF16: Sapphire Rapids and later, where the operating system lets a process use
    /// them (Linux 5.16 and later).
    Amx,
}

impl Isa {
    const ALL: [Self; 5] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The best instruction set of this processor.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().filter(|isa| isa.is_worthwhile()).last().unwrap_or(Self::Scalar)
    }

    /// The instruction sets of this processor, as a rule slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this processor, and the operating system's saved state, have the instruction set.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => {
                Self::Avx512Bf16.is_available()
                    && is_x86_feature_detected!("avx512vbmi")
                    && crate::x86::amx::is_permitted()
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Avx512Bf16 | Self::Amx => false,
        }
    }

    /// Whether it is quicker than those before it.
    fn is_worthwhile(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => !crate::x86::is_by_intel(),
            _ => true,
        }
    }

    /// Whether one column's weights are read faster in several streams. On AMD's Zen 3 they are, and others with
    /// AVX-512 that are not Intel's are taken to be like it, see `docs/decisions/0031-four-streams-in-avx2.md`; Intel's
    /// gain nothing (0023).
    pub(crate) fn is_read_side_by_side(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 => !crate::x86::is_by_intel(),
            _ => true,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        })
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.to_string() == text)
            .ok_or_else(|| format!("'{text}' is not scalar, avx2, avx512, avx512bf16 or amx"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert!("avx".parse::<Isa>().is_err());
    }

    #[test]
    fn scalar_is_always_there() {
        assert!(Isa::available().any(|isa| isa == Isa::Scalar));
        assert!(Isa::detect().is_available());
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn products_of_bf16_are_chosen_only_where_they_are_quick() {
        assert!(Isa::detect() != Isa::Avx512Bf16 || !crate::x86::is_by_intel());
        assert!(Isa::detect() >= Isa::Avx512 || !Isa::Avx512.is_available());
    }
}

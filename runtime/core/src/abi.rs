use std::fmt;

use serde::{Deserialize, Serialize};

/// The machine whose system call tables apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// 64-bit x86. Its compat ABI is i386; it may also have x32.
    #[serde(rename = "x86-64")]
    X86_64,
    /// 64-bit Arm. Its compat ABI is `AArch32` (EABI).
    #[serde(rename = "aarch64")]
    Aarch64,
}

impl Machine {
    /// The machine this program was built for.
    ///
    /// Only the two machines above are supported; elsewhere the crate does not compile.
    pub const fn current() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Self::X86_64;
        #[cfg(target_arch = "aarch64")]
        return Self::Aarch64;
    }
}

/// The convention by which a program made a system call: it decides what a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Abi {
    /// The 64-bit ABI of the machine.
    Native,
    /// The machine's 32-bit ABI: i386 on x86-64, `AArch32` on arm64.
    Compat,
    /// x32: 64-bit registers, 32-bit pointers. Only on x86-64; numbers are given without bit 30.
    X32,
}

impl Abi {
    /// Every ABI, in the order of the recording's bitmaps.
    pub const ALL: [Self; 3] = [Self::Native, Self::Compat, Self::X32];
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Compat => "compat",
            Self::X32 => "x32",
        })
    }
}

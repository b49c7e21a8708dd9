//! How a test tells a guest what to do: by overwriting a text in the component's data. Parameters would come too late
//! for a guest that is to fail while it describes itself.

/// The ways to misbehave: an enum, the name of each case, and which one was chosen.
macro_rules! misbehaviours {
    ($($(#[$doc:meta])* $case:ident,)+) => {
        /// A way to misbehave.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Misbehaviour {
            $($(#[$doc])* $case,)+
        }

        impl Misbehaviour {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$case),+];

            /// Which one was written into this component; `None` where none was.
            pub fn chosen() -> Option<Self> {
                // The compiler must not conclude from the bytes that it sees.
                let text = std::hint::black_box(&crate::choice::CHOICE);
                let name = text.strip_prefix(crate::choice::PREFIX).unwrap_or_default();
                Self::ALL.iter().copied().find(|case| {
                    name.strip_prefix(format!("{case:?}").as_bytes()).is_some_and(|rest| rest.starts_with(b"."))
                })
            }
        }
    };
}
pub(crate) use misbehaviours;

/// How the text begins.
pub const PREFIX: &[u8] = b"misbehaviour: ";
/// The text. The name of the case stands between the prefix and the first dot.
pub(crate) static CHOICE: [u8; 64] = *b"misbehaviour: ..................................................";

/// Does this for ever.
pub(crate) fn endlessly(mut act: impl FnMut()) -> ! {
    loop {
        act();
        std::hint::black_box(());
    }
}

/// Allocates until it is refused.
pub(crate) fn allocate() -> ! {
    let mut hoard = Vec::new();
    // Without touching it: the limit of memory is to be met before that of time, however slow the machine is.
    endlessly(|| hoard.push(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20))))
}

/// Calls itself until something gives.
#[allow(unconditional_recursion)] // On purpose.
pub(crate) fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 16]);
    recurse(depth + 1) + frame[3]
}

//! Declarative tables: enums whose wire numbers stand beside their names, and structures whose fields are wire fields.

/// An enum without fields, its wire numbers and its names as other programs read them.
macro_rules! numbered_enum {
    (
        $(#[$meta:meta])*
        $name:ident ($what:literal) { $( $number:literal $variant:ident $text:literal $doc:literal; )* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $name { $( #[doc = $doc] $variant = $number ),* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$( $name::$variant ),*];

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The one with this number, if this build knows it.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $( $number => Some($name::$variant), )*
                    _ => None,
                }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $( $name::$variant => $text ),* }
            }

            /// The one of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( $text => Some($name::$variant), )*
                    _ => None,
                }
            }

            /// Reads the number, or says which one is unknown.
            #[allow(dead_code)]
            pub(crate) fn take(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                let number = reader.u32()?;
                Self::from_number(number).ok_or($crate::DecodeError::UnknownVariant {
                    what: $what,
                    number,
                    known: Self::ALL.len() as u32,
                })
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}
pub(crate) use numbered_enum;

/// Structures in the layout of section 9. Each field passes through [`crate::codec::Field`].
macro_rules! wire_structs {
    ($(
        $(#[$meta:meta])*
        $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $( $(#[$field_meta])* #[serde(deserialize_with = "crate::codec::field")] pub $field: $ty ),*
        }

        $crate::codec::plain_fields!($name);
    )* };
}
pub(crate) use wire_structs;

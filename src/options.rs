//! Option structs: fields that can be set one by one, or in a chain. New ones come with new versions, so that a struct cannot be
//! written out elsewhere; a chain reads as well.

/// Declares a struct of options with public fields, and for each field a method of its name that sets it and gives the rest.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $name {
            $(
                $(#[$field_meta])*
                #[must_use]
                pub fn $field(mut self, $field: impl Into<$type>) -> $name {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    };
}

pub(crate) use options;

#[cfg(test)]
mod tests {
    use crate::{Digest, ExtractOptions, TreeOptions, WhiteoutForm};

    #[test]
    fn options_are_set_in_a_chain() {
        let digest = Digest::of(b"x");
        let tree = TreeOptions::default().strict(true);
        let options = ExtractOptions::default().tree(tree).diff_id(digest.clone());
        assert!(options.tree.strict && options.diff_id == Some(digest));
        assert_eq!(options.tree.form.whiteouts, WhiteoutForm::Markers);
    }
}

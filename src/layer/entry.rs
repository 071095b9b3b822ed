//! What a layer says about one path, after all tar dialects, extensions and whiteout names are resolved.

/// One entry of a layer. The same object is filled again and again, so that reading a layer does not allocate an entry
/// at a time.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Normalised: components joined by `/`, none of them empty, `.` or `..`; empty for the root of the layer.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Bytes of the file, its holes included; zero for everything but files.
    pub(crate) size: u64,
    /// There are holes: the data comes with offsets, and may end before the file does.
    pub(crate) is_sparse: bool,
    /// A symlink's target as written, or a hard link's target as a normalised path.
    pub(crate) link: Vec<u8>,
    /// Permission, set-id and sticky bits: at most `0o7777`.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Extended attributes, by their full names (`user.x`), in the order of the archive.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    Directory,
    Symlink,
    Hardlink,
    Fifo,
    CharDevice(Device),
    BlockDevice(Device),
    /// `.wh.<name>`: the name below, in lower layers, is gone. The path is the marker's own.
    Whiteout,
    /// `.wh..wh..opq`: everything in the directory, in lower layers, is gone. The path is the marker's own.
    Opaque,
}

/// The number of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// Seconds since the epoch and the nanoseconds after them, also before the epoch: -0.5 s is `(-1, 500_000_000)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Since 1970, rounded down.
    pub seconds: i64,
    /// Below a second.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Into what file systems can hold without the kernel refusing: about the years -10,000 to 10,000 (family 81).
    pub(crate) fn clamped(self) -> Timestamp {
        const LATEST_SECONDS: i64 = 253_402_300_799;
        match self.seconds {
            s if s > LATEST_SECONDS => Timestamp { seconds: LATEST_SECONDS, nanoseconds: 0 },
            s if s < -LATEST_SECONDS => Timestamp { seconds: -LATEST_SECONDS, nanoseconds: 0 },
            _ => self,
        }
    }
}

impl std::ops::BitOr for Anomalies {
    type Output = Anomalies;

    fn bitor(self, other: Anomalies) -> Anomalies {
        Anomalies(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Anomalies {
    fn bitor_assign(&mut self, other: Anomalies) {
        *self = *self | other;
    }
}

macro_rules! anomaly_table {
    ($($const:ident = $bit:literal, $name:literal, $doc:literal;)*) => {
        /// What was odd about a layer and yet accepted, as a set of bits. `strict` turns any of them into an error.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Anomalies(u64);

        impl Anomalies {
            $(#[doc = $doc] pub const $const: Anomalies = Anomalies(1 << $bit);)*

            /// Name, bit and meaning of each anomaly.
            pub const TABLE: &'static [(&'static str, Anomalies, &'static str)] = &[
                $(($name, Anomalies::$const, $doc)),*
            ];
        }
    };
}

anomaly_table! {
    TRAILING_COMPRESSED = 0, "TRAILING_COMPRESSED", "Bytes other than zeros follow the last gzip member.";
    TRAILING_ARCHIVE = 1, "TRAILING_ARCHIVE", "Bytes other than zeros follow the end of the tar archive.";
    SKIPPED_XATTR = 2, "SKIPPED_XATTR", "An extended attribute, ACL or file flag was not set: reserved, not permitted, or not supported here.";
    SKIPPED_AUFS = 3, "SKIPPED_AUFS", "AUFS bookkeeping (`.wh..wh.aufs`, `.plnk`, `.orph`) was left out.";
    SELF_LINK = 4, "SELF_LINK", "A hard link to itself was left out.";
    IGNORED_HEADER = 5, "IGNORED_HEADER", "A global PAX header or volume label was ignored.";
    DEVICE_PLACEHOLDER = 6, "DEVICE_PLACEHOLDER", "A device node became an empty file; the metadata record has its numbers.";
    OWNER_NOT_SET = 7, "OWNER_NOT_SET", "An owner could not be set although the process is root (a user namespace without that id), or a set-id bit.";
    LOWER_LINK = 8, "LOWER_LINK", "A hard link to a file that the layer does not have, but a lower one may: it is in the metadata record only.";
    LONG_WHITEOUT = 9, "LONG_WHITEOUT", "A whiteout whose marker's name would be too long: it is in the metadata record only.";
    COPIED_LINK = 10, "COPIED_LINK", "A hard link became a copy: the file system allows no more links to that file.";
}

impl Anomalies {
    /// The bits, as `bl_extract_result` carries them.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other`'s are among these.
    pub fn contains(self, other: Anomalies) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set with these bits; those that this version does not know are kept.
    pub(crate) fn from_bits(bits: u64) -> Anomalies {
        Anomalies(bits)
    }

    /// The set without some of them.
    pub(crate) fn without(self, other: Anomalies) -> Anomalies {
        Anomalies(self.0 & !other.0)
    }

    pub(crate) fn insert(&mut self, other: Anomalies) {
        self.0 |= other.0;
    }

    /// The names of those present, with `+` between them.
    pub fn names(self) -> String {
        let names: Vec<_> =
            Anomalies::TABLE.iter().filter(|(_, bit, _)| self.contains(*bit)).map(|(name, ..)| *name).collect();
        names.join("+")
    }
}

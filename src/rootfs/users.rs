//! Who a program of an image runs as: the `User` of its config (OCI image-spec, config.md), looked
//! up in the image's own `/etc/passwd` and `/etc/group`. The rules are those of the engines that
//! images are made for.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result, Status, quoted};
use crate::unpack::read_in_root;

/// The longest file of users or groups that is read.
pub(crate) const MAX_USERS_BYTES: usize = 1 << 20;
/// The largest number of a user or group that an image may ask for.
const LARGEST: u32 = i32::MAX as u32;

/// A user of a root file system, by numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootfsUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups, in the order of the file.
    pub additional_gids: Vec<u32>,
    /// The home directory, where the user is known.
    pub home: Option<String>,
}

impl RootfsUser {
    /// Looks up "user", "uid", "user:group" or any mixture of names and numbers; "" is root. Names must be known to the
    /// root file system, numbers need not be. Further groups come with a known user, unless a group was named.
    ///
    /// `NOT_FOUND` for an unknown name, `MALFORMED` for files that are none, `LIMIT` for those over 1 MiB and numbers
    /// from 2^31 on. Symlinks lead nowhere outside the root file system.
    pub fn look_up(rootfs: &Path, user: &str) -> Result<RootfsUser> {
        RootfsUser::look_up_in(&rootfs.display().to_string(), user, |path| read(rootfs, path))
    }

    /// The same where `read` gives the files, which are at `place` in messages; what is not there is empty.
    pub(crate) fn look_up_in(place: &str, user: &str, read: impl Fn(&str) -> Result<Vec<u8>>) -> Result<RootfsUser> {
        // What is no text is not worth more than what it has of one.
        let read = |path: &str| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        let wanted = if user.is_empty() { "0" } else { user };
        let passwd = read("etc/passwd")?;
        let number = parse(wanted)?;
        let known =
            passwd.lines().filter_map(Passwd::parse).find(|line| line.name == wanted || Some(line.uid) == number);
        let mut found = match (&known, number) {
            (Some(line), _) => {
                RootfsUser { uid: line.uid, gid: line.gid, home: Some(line.home.to_owned()), ..RootfsUser::default() }
            }
            (None, Some(uid)) => RootfsUser { uid, ..RootfsUser::default() },
            (None, None) => return Err(unknown("user", wanted, place)),
        };
        if group.is_empty() && known.is_none() {
            return Ok(found);
        }
        let groups = read("etc/group")?;
        let mut groups = groups.lines().filter_map(GroupLine::parse);
        if !group.is_empty() {
            let number = parse(group)?;
            let known = groups.find(|line| line.name == group || Some(line.gid) == number).map(|line| line.gid);
            found.gid = known.or(number).ok_or_else(|| unknown("group", group, place))?;
        } else if let Some(user) = known {
            found.additional_gids = groups.filter(|line| line.has(user.name)).map(|line| line.gid).collect();
        }
        Ok(found)
    }
}

fn unknown(what: &str, name: &str, place: &str) -> Error {
    let why = format!("{place}: no {what} {}", quoted(name.as_bytes()));
    Error::new(Status::NotFound, why)
}

/// A number, if the text is one.
fn parse(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse().ok().filter(|&number| number <= LARGEST) {
        Some(number) => Ok(Some(number)),
        None => Err(Error::limit("user or group number", u64::from(LARGEST), quoted(text.as_bytes()), "config")),
    }
}

fn read(rootfs: &Path, path: &str) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(rootfs, flags, Mode::empty())
        .map_err(|errno| Error::os(errno, format_args!("open {}", rootfs.display())))?;
    let bytes = read_in_root(root, path.as_bytes(), MAX_USERS_BYTES)
        .map_err(|error| error.context(format_args!("{}: /{path}", rootfs.display())))?;
    Ok(bytes.unwrap_or_default())
}

/// A line of passwd(5).
struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Passwd<'a> {
    fn parse(line: &'a str) -> Option<Passwd<'a>> {
        let mut fields = line.trim().split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (_, home) = (fields.next(), fields.next().unwrap_or_default());
        let number = |text: &str| parse(text).ok().flatten();
        (!name.is_empty()).then_some(Passwd { name, uid: number(uid)?, gid: number(gid)?, home })
    }
}

/// A line of group(5).
struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> GroupLine<'a> {
    fn parse(line: &'a str) -> Option<GroupLine<'a>> {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        let gid = parse(gid).ok().flatten()?;
        (!name.is_empty()).then_some(GroupLine { name, gid, members: fields.next().unwrap_or_default() })
    }

    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const PASSWD: &str = "# a comment\nroot:x:0:0:root:/root:/bin/sh\n\nbad\nbad:x:y:0::/:\n:x:9:9::/:\n\
         app:x:1000:1001:An App:/srv/app:/bin/sh\nhuge:x:4294967295:0::/:\n7:x:8:9::/seven:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\nappgroup:x:1001:\ndocker:x:999:app,other\nbad:x\n";

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(dir.path().join("etc/group"), GROUP).unwrap();
        dir
    }

    #[test]
    fn users_by_name_and_number() {
        let dir = root();
        for (user, uid, gid, groups, home) in [
            ("", 0, 0, &[10][..], Some("/root")),
            ("root", 0, 0, &[10], Some("/root")),
            ("0", 0, 0, &[10], Some("/root")),
            ("app", 1000, 1001, &[10, 999], Some("/srv/app")),
            ("1000", 1000, 1001, &[10, 999], Some("/srv/app")),
            ("app:", 1000, 1001, &[10, 999], Some("/srv/app")),
            ("app:docker", 1000, 999, &[], Some("/srv/app")),
            ("app:5", 1000, 5, &[], Some("/srv/app")),
            ("1234", 1234, 0, &[], None),
            ("1234:wheel", 1234, 10, &[], None),
            ("7", 8, 9, &[], Some("/seven")),
            (":wheel", 0, 10, &[], Some("/root")),
        ] {
            let expected = RootfsUser { uid, gid, additional_gids: groups.to_vec(), home: home.map(str::to_owned) };
            assert_eq!(RootfsUser::look_up(dir.path(), user).unwrap(), expected, "{user:?}");
        }
        for (user, status) in [
            ("nobody", Status::NotFound),
            ("app:nobody", Status::NotFound),
            ("huge", Status::NotFound),
            ("2147483648", Status::Limit),
            ("99999999999999999999", Status::Limit),
            ("../app", Status::NotFound),
            ("-1", Status::NotFound),
        ] {
            assert_eq!(RootfsUser::look_up(dir.path(), user).expect_err(user).status(), status, "{user:?}");
        }
        // An image from scratch has neither file.
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(RootfsUser::look_up(empty.path(), "").unwrap(), RootfsUser::default());
        assert_eq!(RootfsUser::look_up(empty.path(), "5:6").unwrap().gid, 6);
    }

    #[test]
    fn family_128_files_that_are_none() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("passwd"), "outside:x:66:66::/:\n").unwrap();
        let dir = root();
        let passwd = dir.path().join("etc/passwd");
        let found = |user: &str| RootfsUser::look_up(dir.path(), user);
        let replace = |make: &dyn Fn()| {
            std::fs::remove_file(&passwd).unwrap();
            make();
        };
        // Symlinks are resolved in there.
        let target = outside.path().join("passwd");
        for target in [target.clone(), Path::new("../../../../../..").join(target.strip_prefix("/").unwrap())] {
            replace(&|| symlink(&target, &passwd).unwrap());
            assert_eq!(found("outside").unwrap_err().status(), Status::NotFound);
            assert_eq!(found("").unwrap().home, None);
        }
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        std::fs::write(dir.path().join("usr/lib/passwd"), "inside:x:77:78::/in:\n").unwrap();
        for target in ["/usr/lib/passwd", "../usr/lib/passwd", "../../../usr/./lib//passwd", "/etc/../usr/lib/passwd"] {
            replace(&|| symlink(target, &passwd).unwrap());
            assert_eq!(found("inside").unwrap().uid, 77, "{target}");
        }
        for target in ["passwd", "/etc/passwd"] {
            replace(&|| symlink(target, &passwd).unwrap());
            assert_eq!(found("").unwrap_err().status(), Status::Limit, "{target}");
        }
        for target in ["/", ".", "..", "/usr"] {
            replace(&|| symlink(target, &passwd).unwrap());
            assert_eq!(found("").unwrap_err().status(), Status::Malformed, "{target}");
        }
        // A fifo would wait for a writer.
        replace(&|| {
            crate::sys::make_fifo(rustix::fs::CWD, passwd.as_os_str().as_encoded_bytes(), Mode::RUSR).unwrap();
        });
        assert_eq!(found("").unwrap_err().status(), Status::Malformed);
        // Large ones, also of holes alone, and of one line.
        replace(&|| std::fs::File::create(&passwd).unwrap().set_len(2 << 30).unwrap());
        assert_eq!(found("").unwrap_err().status(), Status::Limit);
        std::fs::write(&passwd, [b'x'; 100 << 10]).unwrap();
        assert_eq!(found("").unwrap(), RootfsUser::default());
        std::fs::write(&passwd, b"\xff\xfe:x:5:5::/:\nroot:x:0:3::/\xff:\n").unwrap();
        assert_eq!(found("root").unwrap().gid, 3);
    }
}

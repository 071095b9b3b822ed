//! Layers on top of each other, as a root file system. They are put together in every mode, under
//! the oracle of the other families, with what must come of them. Random ones must come to the same
//! in every mode, and to what the model says.

use std::collections::BTreeMap;

use boxlite_images::{Digest, Error, RootfsMode, RootfsOptions, Status};

use super::super::archive::{Archive, Header};
use super::super::images::put_image_of;
use super::super::support::{as_each_user_capped, assert_nothing_half_made, is_root, leftovers, names_in, skip};
use super::super::tree::{Node, differences, snapshot};
use super::model::{self, Choices, Op, Tree};
use super::{Bench, watched};

const MODES: [RootfsMode; 4] = [RootfsMode::Copy, RootfsMode::Reflink, RootfsMode::Hardlink, RootfsMode::Direct];

/// An image's layers, and what they must come to.
struct Stack {
    name: String,
    layers: Vec<Vec<u8>>,
    /// As `Outcome::Tree` has it, with `@first` for further names of a file.
    outcome: Result<Vec<String>, Status>,
}

fn stack<const N: usize>(name: &str, layers: [Archive; N], lines: &[&str]) -> Stack {
    let layers = layers.into_iter().map(Archive::finish).collect();
    Stack { name: name.to_owned(), layers, outcome: Ok(lines.iter().map(|line| (*line).to_owned()).collect()) }
}

fn refused<const N: usize>(name: &str, layers: [Archive; N], status: Status) -> Stack {
    let layers = layers.into_iter().map(Archive::finish).collect();
    Stack { name: name.to_owned(), layers, outcome: Err(status) }
}

/// Assembles in a mode, and checks what holds for every stack.
fn assemble(bench: &Bench, name: &str, image: &Digest, mode: RootfsMode) -> Result<BTreeMap<String, Node>, Error> {
    let target = bench.canary.target();
    let destination = target.join(format!("{mode:?}"));
    let image = bench.storage.open_image_by_digest(image).unwrap();
    let mut options = RootfsOptions::default();
    (options.mode, options.replace) = (mode, true);
    let result = watched(name, || bench.storage.assemble_rootfs(&image, &destination, &options));
    if let Err(error) = &result {
        assert!(error.message().len() < 2000 && !error.message().contains(['\n', '\x1b']), "{name}: {error}");
        assert_ne!(error.status(), Status::Internal, "{name}: {error}");
    }
    bench.canary.assert_untouched(name);
    assert_eq!(leftovers(bench.storage.images_dir()), [""; 0], "{name}");
    assert_nothing_half_made(&target, name);
    result.map(|_| {
        let mut nodes = snapshot(&destination);
        // In the store a file may have more names.
        nodes.values_mut().for_each(|node| node.links = 0);
        nodes
    })
}

fn shown(bench: &Bench, mode: RootfsMode, nodes: &BTreeMap<String, Node>) -> Vec<String> {
    let root = bench.canary.target().join(format!("{mode:?}"));
    let show = |(path, node): (&String, &Node)| {
        let short = path.trim_start_matches("./");
        match node.kind {
            "dir" => format!("{short}/"),
            "symlink" => format!("{short}->{}", node.content),
            "file" if node.same_as != *path => format!("{short}@{}", node.same_as.trim_start_matches("./")),
            "file" if node.size > 0 => format!("{short}={}", std::fs::read_to_string(root.join(short)).unwrap()),
            "file" => short.to_owned(),
            kind => format!("{short} {kind}"),
        }
    };
    nodes.iter().filter(|(path, _)| *path != ".").map(show).collect()
}

fn run(stacks: Vec<Stack>) {
    for Stack { name, layers, outcome } in stacks {
        let bench = Bench::new();
        let image = put_image_of(&bench.storage, "x", &layers);
        let mut first: Option<BTreeMap<String, Node>> = None;
        for mode in MODES {
            let what = format!("{name} ({mode:?})");
            match (&outcome, assemble(&bench, &what, &image, mode)) {
                (Ok(lines), Ok(nodes)) => {
                    assert_eq!(shown(&bench, mode, &nodes), *lines, "{what}");
                    let first = first.get_or_insert_with(|| nodes.clone());
                    let found = differences(first, &nodes);
                    assert!(found.is_empty(), "{what} differs from copies: {found:#?}");
                }
                (Err(status), Err(error)) => assert_eq!(error.status(), *status, "{what}: {error}"),
                (_, result) => panic!("{what}: {result:?}"),
            }
        }
    }
}

fn a() -> Archive {
    Archive::new()
}

fn merges() -> Vec<Stack> {
    let mut stacks = vec![
        stack(
            "19 a parent that is a symlink below",
            [a().dir(b"usr").dir(b"usr/lib").symlink(b"lib", b"usr/lib"), a().file(b"lib/x", b"1")],
            &["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/x=1"],
        ),
        stack(
            "19 replaced by a directory of its own",
            [a().dir(b"usr").dir(b"usr/lib").symlink(b"lib", b"usr/lib"), a().file(b"lib/x", b"1").dir(b"lib")],
            &["lib/", "lib/x=1", "usr/", "usr/lib/"],
        ),
        stack(
            "18 a parent that leads nowhere",
            [a().symlink(b"var", b"/run/var"), a().file(b"var/x", b"1")],
            &["run/", "run/var/", "run/var/x=1", "var->/run/var"],
        ),
        refused(
            "17 a parent that leads in circles",
            [a().symlink(b"x", b"y").symlink(b"y", b"x"), a().file(b"x/f", b"1")],
            Status::Limit,
        ),
        stack("20 a parent that is a file below", [a().file(b"d", b"1"), a().file(b"d/x", b"2")], &["d/", "d/x=2"]),
        stack(
            "37 a link to a lower layer",
            [a().file(b"a", b"1"), a().hardlink(b"b", b"a"), a().hardlink(b"c", b"b")],
            &["a=1", "b@a", "c@a"],
        ),
        stack(
            "37 through a symlink of a lower layer",
            [a().dir(b"d").file(b"d/a", b"1").symlink(b"s", b"/d"), a().hardlink(b"b", b"s/a")],
            &["b=1", "d/", "d/a@b", "s->/d"],
        ),
        refused("37 to nothing", [a().file(b"a", b"1"), a().hardlink(b"b", b"none")], Status::Malformed),
        refused(
            "37 to what the layer hides",
            [a().file(b"a", b"1"), a().file(b".wh.a", b"").hardlink(b"b", b"a")],
            Status::Malformed,
        ),
        stack(
            "39 a link outlives its target",
            [a().file(b"a", b"1").hardlink(b"b", b"a"), a().file(b".wh.a", b"")],
            &["b=1"],
        ),
        stack(
            "39 and is not changed with it",
            [a().file(b"a", b"1").hardlink(b"b", b"a"), a().file(b"a", b"2")],
            &["a=2", "b=1"],
        ),
        stack(
            "52 whiteouts of nothing",
            [
                a().dir(b"d").file(b"f", b""),
                a().file(b".wh.x", b"").file(b"d/.wh.y", b"").file(b"no/such/.wh.z", b"").file(b"f/.wh.z", b""),
            ],
            &["d/", "f"],
        ),
        stack(
            "53 a whiteout through a symlink",
            [
                a().dir(b"real").file(b"real/f", b"1").file(b"real/g", b"1").symlink(b"etc", b"/real"),
                a().file(b"etc/.wh.f", b""),
            ],
            &["etc->/real", "real/", "real/g=1"],
        ),
        stack(
            "53 opaque through a symlink",
            [
                a().dir(b"real").file(b"real/f", b"1").symlink(b"etc", b"real"),
                a().file(b"etc/.wh..wh..opq", b"").file(b"etc/g", b"2"),
            ],
            &["etc->real", "real/", "real/g=2"],
        ),
        stack(
            "54 a whiteout of a symlink",
            [a().dir(b"d").file(b"d/f", b"1").symlink(b"l", b"d"), a().file(b".wh.l", b"")],
            &["d/", "d/f=1"],
        ),
        stack(
            "54 a whiteout of a directory with symlinks in it",
            [
                a().dir(b"keep")
                    .file(b"keep/f", b"1")
                    .dir(b"d")
                    .symlink(b"d/l", b"../keep")
                    .symlink(b"d/m", b"/../../etc"),
                a().file(b".wh.d", b""),
            ],
            &["keep/", "keep/f=1"],
        ),
    ];
    for (what, target) in [("outside", "../../../etc"), ("absolute", "/etc"), ("inside", "real")] {
        for dir_first in [true, false] {
            for (marker, rest) in [(".wh.passwd", &[][..]), (".wh..wh..opq", &[]), ("passwd", &["etc/passwd"])] {
                let path = format!("etc/{marker}");
                let upper = match dir_first {
                    true => a().dir(b"etc").file(path.as_bytes(), b""),
                    false => a().file(path.as_bytes(), b"").dir(b"etc"),
                };
                let lower = a().dir(b"real").file(b"real/passwd", b"1").symlink(b"etc", target.as_bytes());
                let name = format!("55 a directory over a symlink that leads {what}, {marker}, {dir_first}");
                let lines: Vec<&str> = ["etc/"].iter().chain(rest).copied().chain(["real/", "real/passwd=1"]).collect();
                stacks.push(stack(&name, [lower, upper], &lines));
            }
        }
    }
    let lower =
        || a().entry(Header::new(b'5', b"d").mode(0o700).owner(1, 2), b"").file(b"d/f", b"1").file(b"d/g", b"1");
    stacks.extend([
        stack(
            "56 f, then its whiteout",
            [lower(), a().file(b"d/f", b"2").file(b"d/.wh.f", b"")],
            &["d/", "d/f=2", "d/g=1"],
        ),
        stack(
            "56 its whiteout, then f",
            [lower(), a().file(b"d/.wh.f", b"").file(b"d/f", b"2")],
            &["d/", "d/f=2", "d/g=1"],
        ),
        stack("57 a whiteout, then a child", [lower(), a().file(b".wh.d", b"").file(b"d/h", b"2")], &["d/", "d/h=2"]),
        stack("57 a child, then a whiteout", [lower(), a().file(b"d/h", b"2").file(b".wh.d", b"")], &["d/", "d/h=2"]),
        stack(
            "57 with an entry between",
            [lower(), a().file(b"d/h", b"2").dir(b"d").file(b".wh.d", b"")],
            &["d/", "d/h=2"],
        ),
        stack(
            "57 deep",
            [
                a().dir(b"d").entry(Header::new(b'5', b"d/e").mode(0o711), b"").file(b"d/e/f", b"1").file(b"d/g", b"1"),
                a().file(b"d/e/x", b"2").file(b".wh.d", b""),
            ],
            &["d/", "d/e/", "d/e/x=2"],
        ),
        stack("58 opaque before", [lower(), a().file(b"d/.wh..wh..opq", b"").file(b"d/f", b"2")], &["d/", "d/f=2"]),
        stack("58 opaque after", [lower(), a().file(b"d/f", b"2").file(b"d/.wh..wh..opq", b"")], &["d/", "d/f=2"]),
        stack(
            "58 opaque between",
            [lower(), a().file(b"d/f", b"2").file(b"d/.wh..wh..opq", b"").file(b"d/h", b"2")],
            &["d/", "d/f=2", "d/h=2"],
        ),
        stack(
            "58 nested",
            [
                a().file(b"d/e/f", b"1").file(b"d/g", b"1"),
                a().file(b"d/e/.wh..wh..opq", b"").file(b"d/.wh..wh..opq", b"").file(b"d/e/h", b"2"),
            ],
            &["d/", "d/e/", "d/e/h=2"],
        ),
        stack(
            "58 at the root",
            [lower(), a().file(b"x", b"2").file(b".wh..wh..opq", b"").file(b"y", b"2")],
            &["x=2", "y=2"],
        ),
        stack("58 where there was a file", [a().file(b"d", b"1"), a().file(b"d/.wh..wh..opq", b"")], &["d/"]),
        stack("58 where there was nothing", [a().file(b"f", b"1"), a().file(b"d/.wh..wh..opq", b"")], &["d/", "f=1"]),
        stack("59 opaque without an entry of its own", [lower(), a().file(b"d/.wh..wh..opq", b"")], &["d/"]),
        stack(
            "61 a whiteout whose marker is too long",
            [
                a().pax(&[("path", &[b'n'; 255])]).file(b"x", b"1").file(b"f", b"1"),
                a().pax(&[("path", &[&b".wh."[..], &[b'n'; 255]].concat())]).file(b"x", b""),
            ],
            &["f=1"],
        ),
        stack(
            "62 deletes of several layers",
            [
                a().file(b"a", b"1").file(b"b", b"1").file(b"c", b"1"),
                a().file(b".wh.a", b""),
                a().file(b"a", b"2").file(b".wh.b", b""),
                a().file(b".wh.a", b"").file(b"b", b"3"),
            ],
            &["b=3", "c=1"],
        ),
        stack(
            "63 the device 0:0 is no whiteout",
            [a().file(b"f", b"1"), a().entry(Header::new(b'3', b"f").device(0, 0), b"")],
            &["f"],
        ),
        stack(
            "64 flags and attributes that a layer cannot have set",
            [
                a().pax(&[("SCHILY.fflags", b"schg,sappnd"), ("LIBARCHIVE.fflags", b"immutable")])
                    .dir(b"d")
                    .pax(&[("SCHILY.fflags", b"schg")])
                    .file(b"d/f", b"1"),
                a().file(b"d/.wh.f", b""),
            ],
            &["d/"],
        ),
        stack(
            "72 into a directory that may not be written to",
            [
                a().entry(Header::new(b'5', b"d").mode(0o555), b""),
                a().file(b"d/f", b"1"),
                a().file(b"d/g", b"1").file(b"d/.wh.f", b""),
            ],
            &["d/", "d/g=1"],
        ),
        stack("104 no entries, and no layers", [a(), a()], &[]),
        stack("126 no layers", [], &[]),
        stack("120 a layer twice", [lower(), a().file(b".wh.d", b""), lower()], &["d/", "d/f=1", "d/g=1"]),
        stack(
            "52 whiteouts of all that there is",
            [a().dir(b"d").file(b"d/f", b"1").file(b"g", b"1"), a().file(b".wh.d", b"").file(b".wh.g", b"")],
            &[],
        ),
    ]);
    stacks
}

/// The families of all stacks.
pub fn numbers() -> Vec<u32> {
    merges().iter().map(|stack| stack.name.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// The layers of all stacks.
pub fn layers_of_all() -> Vec<Vec<Vec<u8>>> {
    merges().into_iter().map(|stack| stack.layers).collect()
}

#[test]
fn merging_layers() {
    as_each_user_capped("families::assembly::merging_layers", merges, run);
}

/// The layers of the other families on top of one that has something in every place that they like
/// to use. They are contained and refused as they are by themselves, and come to the same from
/// their trees and from their blobs.
#[test]
fn every_family_on_top_of_another_layer() {
    let cases = || {
        let mut cases = super::names::cases();
        cases.extend(super::hardlinks::cases());
        cases.extend(super::whiteouts::cases());
        cases.extend(super::trees::replacements());
        cases.extend(super::trees::must_accept());
        cases.extend(super::metadata::cases());
        cases.extend(super::framing::cases());
        cases.extend(super::sparse::cases());
        cases
    };
    as_each_user_capped("families::assembly::every_family_on_top_of_another_layer", cases, |cases| {
        let base = a()
            .symlink(b"etc", b"/../../../etc")
            .symlink(b"link", b"..")
            .symlink(b"abs", b"/")
            .dir(b"d")
            .file(b"d/f", b"lower")
            .symlink(b"a", b"b")
            .file(b"f", b"lower")
            .hardlink(b"g", b"f")
            .finish();
        let (mut same, mut refused) = (0, 0);
        // Every case as one of the two users.
        let ours = cases.into_iter().skip(usize::from(is_root())).step_by(2);
        for super::Case { name, layer, outcome } in ours {
            let bench = Bench::new();
            let image = put_image_of(&bench.storage, "x", &[base.clone(), layer]);
            let results = [RootfsMode::Copy, RootfsMode::Direct].map(|mode| assemble(&bench, &name, &image, mode));
            match results {
                [Ok(copy), Ok(direct)] => {
                    assert!(!matches!(outcome, super::Outcome::Fails(_)), "{name}: accepted");
                    let found = differences(&copy, &direct);
                    assert!(found.is_empty(), "{name}: {found:#?}");
                    same += 1;
                }
                [Err(_), Err(_)] => refused += 1,
                [copy, direct] => panic!("{name}: {:?}, {:?}", copy.err(), direct.err()),
            }
        }
        assert!(same > 100 && refused > 50, "{same} the same, {refused} refused");
    });
}

/// Seven types, each over each.
fn replacements() -> Vec<Stack> {
    const TYPES: [&str; 7] = ["file", "directory", "symlink", "hardlink", "fifo", "device", "full"];
    let put = |archive: Archive, kind: &str| match kind {
        "file" => archive.file(b"x", b"new"),
        "directory" => archive.dir(b"x"),
        "symlink" => archive.symlink(b"x", b"other"),
        "hardlink" => archive.hardlink(b"x", b"other"),
        "fifo" => archive.entry(Header::new(b'6', b"x"), b""),
        "device" => archive.entry(Header::new(b'3', b"x").device(1, 3), b""),
        _ => archive.dir(b"x").file(b"x/in", b"1"),
    };
    let mut stacks = Vec::new();
    for lower in TYPES {
        for upper in TYPES {
            let both_dirs = matches!(upper, "directory" | "full") && lower == "full";
            let mut lines = vec!["other=o"];
            lines.extend(match upper {
                "file" => &["x=new"][..],
                "directory" if both_dirs => &["x/", "x/in=1"],
                "directory" => &["x/"],
                "symlink" => &["x->other"],
                "hardlink" => &["x@other"],
                "fifo" => &["x fifo"],
                "device" => &["x"],
                _ => &["x/", "x/in=1"],
            });
            let layers = [put(a().file(b"other", b"o"), lower), put(a(), upper)];
            stacks.push(stack(&format!("65 {upper} over {lower}"), layers, &lines));
        }
    }
    stacks
}

#[test]
fn families_65_every_type_over_every_type() {
    as_each_user_capped("families::assembly::families_65_every_type_over_every_type", replacements, run);
}

/// What a directory is stays what the last entry for it says, whatever later layers put into it or take out.
#[test]
fn families_82_83_metadata_of_directories() {
    as_each_user_capped(
        "families::assembly::families_82_83_metadata_of_directories",
        || (),
        |()| {
            let dated = |archive: Archive, path: &[u8], mode: u64, time: &[u8]| {
                archive.pax(&[("mtime", time)]).entry(Header::new(b'5', path).mode(mode), b"")
            };
            let layers = [
                dated(dated(a(), b"./", 0o750, b"1000.5"), b"d", 0o711, b"2000.25")
                    .file(b"d/f", b"1")
                    .file(b"i/f", b"1"),
                a().file(b"d/g", b"1").file(b"i/g", b"1"),
                a().file(b"d/.wh.f", b""),
                dated(a(), b"i", 0o700, b"3000"),
            ];
            let bench = Bench::new();
            let image = put_image_of(&bench.storage, "x", &layers.map(Archive::finish));
            for mode in MODES {
                let nodes = assemble(&bench, "82", &image, mode).unwrap();
                let said = |path: &str| (nodes[path].mode, nodes[path].mtime);
                assert_eq!(said("."), (0o750, 1_000_500_000_000), "{mode:?}");
                assert_eq!(said("./d"), (0o711, 2_000_250_000_000), "{mode:?}");
                assert_eq!(said("./i"), (0o700, 3_000_000_000_000), "{mode:?}");
            }
        },
    );
}

/// An attribute that keeps even root from changing a folder.
#[test]
fn family_64_an_immutable_folder() {
    if !is_root() {
        return skip("immutable folders need root");
    }
    let bench = Bench::new();
    let image = put_image_of(&bench.storage, "x", &[a().file(b"f", b"1").finish()]);
    let image = bench.storage.open_image_by_digest(&image).unwrap();
    let folder = bench.canary.target().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let chattr = |flag: &str| std::process::Command::new("chattr").arg(flag).arg(&folder).status();
    if !chattr("+i").is_ok_and(|status| status.success()) {
        // Not every file system has immutable folders, and not every container may make them.
        eprintln!("skipped: no folder can be made immutable here");
        return;
    }
    let result = bench.storage.assemble_rootfs(&image, &folder.join("root"), &RootfsOptions::default());
    chattr("-i").unwrap();
    assert_eq!(result.unwrap_err().status(), Status::Permission);
    assert_eq!(names_in(&folder), [""; 0]);
}

#[test]
fn random_stacks_agree_with_the_model() {
    as_each_user_capped(
        "families::assembly::random_stacks_agree_with_the_model",
        || (),
        |()| {
            for seed in 0..80 {
                let mut choices = Choices::new(5000 + seed);
                let mut expected = Tree::default();
                let (mut story, mut layers) = (Vec::new(), Vec::new());
                for _ in 0..4 {
                    let ops: Vec<Op> = choices.ops(8, false).into_iter().map(readable).collect();
                    let Ok(tree) = Tree::of(&ops) else { continue };
                    layers.push(model::archive(&ops));
                    model::merge(&mut expected, &tree);
                    story.push(ops);
                }
                let bench = Bench::new();
                let image = put_image_of(&bench.storage, "x", &layers);
                let mut lines = model::lines(&expected);
                lines.sort();
                for mode in [RootfsMode::Copy, RootfsMode::Direct] {
                    let name = format!("seed {seed}, {mode:?}: {story:#?}");
                    let nodes = assemble(&bench, &name, &image, mode).unwrap();
                    let root = bench.canary.target().join(format!("{mode:?}"));
                    assert_eq!(model::found(&nodes, &root), lines, "{name}");
                }
            }
        },
    );
}

fn readable(op: Op) -> Op {
    match op {
        Op::Put(path, model::Node::Dir(mode)) => Op::Put(path, model::Node::Dir(mode | 0o500)),
        op => op,
    }
}

/// With symlinks and hard links, of which the model knows only what one layer makes of them.
#[test]
fn random_stacks_are_the_same_in_every_mode() {
    as_each_user_capped(
        "families::assembly::random_stacks_are_the_same_in_every_mode",
        || (),
        |()| {
            let (mut same, mut refused) = (0, 0);
            for seed in 0..100 {
                let mut choices = Choices::new(9000 + seed);
                let story: Vec<Vec<Op>> = (0..3)
                    .map(|_| {
                        let count = 1 + choices.below(9);
                        choices.ops(count, true).into_iter().map(readable).collect::<Vec<_>>()
                    })
                    .filter(|ops| Tree::of(ops).is_ok())
                    .collect();
                let layers: Vec<Vec<u8>> = story.iter().map(|ops| model::archive(ops)).collect();
                let bench = Bench::new();
                let image = put_image_of(&bench.storage, "x", &layers);
                let what = format!("seed {seed}: {story:#?}");
                let copy = assemble(&bench, &what, &image, RootfsMode::Copy);
                for mode in [RootfsMode::Hardlink, RootfsMode::Direct] {
                    match (&copy, assemble(&bench, &what, &image, mode)) {
                        (Ok(copy), Ok(other)) => {
                            let found = differences(copy, &other);
                            assert!(found.is_empty(), "{mode:?} differs from copies: {found:#?}\n{what}");
                            same += 1;
                        }
                        // Where there is more than one thing wrong, another one may be met first.
                        (Err(_), Err(_)) => refused += 1,
                        (copy, other) => panic!("{mode:?}: {:?}, {:?}: {what}", copy.as_ref().err(), other.err()),
                    }
                }
            }
            assert!(same > 100 && refused > 5, "{same} the same, {refused} refused");
        },
    );
}

//! Which entry of an index is the image that is wanted: one filter and one choice, for pulls and for layouts alike.
//!
//! An index has more in it than images. Signatures, SBOMs and attestations lie beside what they
//! speak of. What a reader does not know it must ignore (OCI image-spec, image-index.md). So first
//! everything that is no image for us is passed over, by what the entry says and then by what its
//! manifest says. Only then one is chosen: the best that runs on the platform. Of that an entry
//! speaks, or else its config (containerd's rule). The first of several is never taken for another
//! processor.

use std::cell::{Cell, RefCell};

use super::{Descriptor, Document, ImageConfig, ImageIndex, ImageManifest, IndexEntry, Platform, media_type};
use crate::error::{Error, Result, Status, quoted};

/// How many indexes lead from one to a manifest.
pub(crate) const INDEX_DEPTH: usize = 4;
/// How many documents are looked at because their entries do not say what they are for.
const LOOKED_AT: usize = 64;

/// The platform that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct WantedPlatform {
    /// What runs there, the best first.
    platforms: Vec<Platform>,
    /// Somebody asked for it: a single image is held against it too.
    is_asked_for: bool,
}

impl WantedPlatform {
    /// `None` is this machine's.
    pub(crate) fn new(asked: Option<&Platform>, is_strict: bool) -> WantedPlatform {
        let platform = asked.cloned().unwrap_or_else(Platform::host);
        let platforms = if is_strict { vec![platform] } else { platform.fallbacks() };
        WantedPlatform { platforms, is_asked_for: asked.is_some() }
    }

    /// Whether an image that is alone will do, by its config.
    pub(crate) fn check(&self, config: &ImageConfig, object: impl std::fmt::Display) -> Result<()> {
        if !self.is_asked_for || self.rank_of(config).is_some() {
            return Ok(());
        }
        Err(Error::new(
            Status::NotFound,
            format!("{object} is for {}, not for {}", config.platform(), self.platforms[0]),
        ))
    }

    /// How good a config's platform is; what it does not say cannot be wrong.
    fn rank_of(&self, config: &ImageConfig) -> Option<usize> {
        let found = config.platform();
        let is = |said: &str, wanted: &str| said.is_empty() || said == wanted;
        config.os_features.is_empty().then_some(())?;
        self.platforms.iter().position(|wanted| {
            is(&found.os, &wanted.os)
                && is(&found.architecture, &wanted.architecture)
                && (found.architecture.is_empty() || is(&found.variant, &wanted.variant))
        })
    }
}

/// Where the documents of an index are.
pub(crate) trait Documents {
    /// What a descriptor leads to, verified.
    fn document(&self, descriptor: &Descriptor) -> Result<Document>;
    /// The config of an image, verified.
    fn config(&self, manifest: &ImageManifest) -> Result<ImageConfig>;
    /// Whether it is there at all; an archive may have one platform of many.
    fn has(&self, _descriptor: &Descriptor) -> bool {
        true
    }
}

/// The manifest that was chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The way to it through the index: further indexes, and the manifest last.
    pub(crate) way: Vec<Descriptor>,
    pub(crate) manifest: ImageManifest,
}

/// The image of an index, or why there is none. `NOT_FOUND` where all of them are for other
/// platforms, `UNSUPPORTED` where nothing in it is an image. `object` is what the index is called.
/// What cannot be read ends it.
pub(crate) fn choose(
    index: &ImageIndex,
    object: &str,
    wanted: &WantedPlatform,
    documents: &impl Documents,
) -> Result<Result<Chosen, Error>> {
    let choice = Choice::of(wanted, documents);
    let best = choice.best_of(index, INDEX_DEPTH)?;
    Ok(best.map(|(_, chosen)| chosen).ok_or_else(|| choice.why_none(object)))
}

/// That a manifest is that of an image that we can use; `UNSUPPORTED`, with what it is instead.
pub(crate) fn check_image(manifest: &ImageManifest) -> Result<()> {
    let unsupported = |what: &str, kind: &str| {
        let kind = if kind.is_empty() { String::new() } else { format!(" of type {}", quoted(kind.as_bytes())) };
        Err(Error::new(Status::Unsupported, format!("is no image but {what}{kind}")))
    };
    let config = manifest.config.media_type.as_str();
    if !manifest.artifact_type.is_empty() {
        return unsupported("an artifact", &manifest.artifact_type);
    }
    if !media_type::is_image_config(config) {
        return unsupported("an artifact with a config", config);
    }
    if manifest.has_subject {
        return unsupported("something that speaks of another manifest (it has a subject)", "");
    }
    manifest.layers.iter().try_for_each(|layer| media_type::check_layer(&layer.media_type))
}

struct Choice<'a, D> {
    wanted: &'a WantedPlatform,
    documents: &'a D,
    looked_at: Cell<usize>,
    /// The platforms that there are, as text.
    there: RefCell<Vec<String>>,
    /// Why others are no images.
    passed_over: RefCell<Vec<String>>,
}

/// How good a choice is, the lower the better, and the choice.
type Ranked = Option<(usize, Chosen)>;

impl<'a, D: Documents> Choice<'a, D> {
    fn of(wanted: &'a WantedPlatform, documents: &'a D) -> Choice<'a, D> {
        Choice {
            wanted,
            documents,
            looked_at: Cell::new(0),
            there: RefCell::default(),
            passed_over: RefCell::default(),
        }
    }

    fn best_of(&self, index: &ImageIndex, depth: usize) -> Result<Ranked> {
        let (mut said, mut silent) = (Vec::new(), Vec::new());
        for entry in &index.manifests {
            if let Some(why) = entry.why_no_image() {
                self.pass_over(&entry.descriptor, &why);
                continue;
            }
            let Some(platform) = &entry.platform else {
                silent.push(entry);
                continue;
            };
            if self.documents.has(&entry.descriptor) {
                self.note(platform.to_string());
            }
            if let Some(rank) = self.wanted.platforms.iter().position(|wanted| wanted == platform) {
                said.push((rank, entry));
            }
        }
        // Of two that are as good the first.
        said.sort_by_key(|(rank, _)| *rank);
        let mut best = None;
        for (rank, entry) in said {
            if !self.documents.has(&entry.descriptor) {
                return Err(self.absent(entry));
            }
            if let Some((_, chosen)) = self.open(entry, depth)? {
                best = Some((rank, chosen));
                break;
            }
        }
        let is_better = |best: &Ranked, rank: usize| best.as_ref().is_none_or(|(other, _)| rank < *other);
        for entry in silent {
            if is_better(&best, 0)
                && let Some((rank, chosen)) = self.open(entry, depth)?
                && is_better(&best, rank)
            {
                best = Some((rank, chosen));
            }
        }
        Ok(best)
    }

    /// What an entry leads to; `None` where that is no image for us. The rank of an entry with a platform is the entry's.
    fn open(&self, entry: &IndexEntry, depth: usize) -> Result<Ranked> {
        let descriptor = &entry.descriptor;
        if entry.platform.is_none() {
            self.looked_at.set(self.looked_at.get() + 1);
            if self.looked_at.get() > LOOKED_AT {
                let object = &descriptor.digest;
                return Err(Error::limit("index entries without a platform", LOOKED_AT as u64, "more", object));
            }
            if !self.documents.has(descriptor) {
                self.pass_over(descriptor, "is not there");
                return Ok(None);
            }
        }
        let manifest = match self.documents.document(descriptor)? {
            Document::Index(_) if depth == 0 => {
                return Err(Error::limit("index depth", INDEX_DEPTH as u64, "more", &descriptor.digest));
            }
            Document::Index(index) => {
                let best = self.best_of(&index, depth - 1)?;
                return Ok(best.map(|(rank, mut chosen)| {
                    chosen.way.insert(0, descriptor.clone());
                    (rank, chosen)
                }));
            }
            Document::Manifest(manifest) => manifest,
        };
        if let Err(error) = check_image(&manifest) {
            self.pass_over(descriptor, error.message());
            return Ok(None);
        }
        let rank = match &entry.platform {
            Some(_) => Some(0),
            None => {
                let config = self.documents.config(&manifest)?;
                self.note(config.platform().to_string());
                self.wanted.rank_of(&config)
            }
        };
        Ok(rank.map(|rank| (rank, Chosen { way: vec![descriptor.clone()], manifest })))
    }

    fn note(&self, platform: String) {
        let mut there = self.there.borrow_mut();
        if !there.contains(&platform) {
            there.push(platform);
        }
    }

    fn pass_over(&self, descriptor: &Descriptor, why: &str) {
        self.passed_over.borrow_mut().push(format!("{} {why}", descriptor.digest));
    }

    fn absent(&self, entry: &IndexEntry) -> Error {
        let platform = entry.platform.as_ref().map_or_else(String::new, |platform| format!(" for {platform}"));
        let why = format!("{}{platform} is not there, and {}", entry.descriptor.digest, self.what_is_there());
        Error::new(Status::NotFound, why)
    }

    fn what_is_there(&self) -> String {
        let there = self.there.borrow();
        if there.is_empty() {
            "nothing is".to_owned()
        } else {
            format!("there are {}", quoted(there.join(", ").as_bytes()))
        }
    }

    fn why_none(&self, object: &str) -> Error {
        let passed_over = self.passed_over.borrow();
        if self.there.borrow().is_empty()
            && let Some(first) = passed_over.first()
        {
            let more = match passed_over.len() {
                1 => String::new(),
                count => format!(", and {} more like it", count - 1),
            };
            return Error::new(Status::Unsupported, format!("{object} has no image: {first}{more}"));
        }
        let (wanted, there) = (&self.wanted.platforms[0], self.what_is_there());
        Error::new(Status::NotFound, format!("{object} has no image for {wanted}; {there}"))
    }
}

impl IndexEntry {
    /// Why an entry is no image for us, by what it says itself.
    pub(crate) fn why_no_image(&self) -> Option<String> {
        let kind = self.descriptor.media_type.as_str();
        if !kind.is_empty() && !media_type::is_index(kind) && !media_type::is_manifest(kind) {
            return Some(format!("is of type {}", quoted(kind.as_bytes())));
        }
        if !self.artifact_type.is_empty() {
            return Some(format!("is an artifact of type {}", quoted(self.artifact_type.as_bytes())));
        }
        if self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
            || self.annotations.contains_key("vnd.docker.reference.type")
        {
            return Some("is an attestation".to_owned());
        }
        // None of them is known of this host, nor can be of a guest.
        if !self.os_features.is_empty() {
            let features = quoted(self.os_features.join(", ").as_bytes());
            return Some(format!("needs the features {features} of its operating system"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::digest::Digest;

    /// Every document is a manifest, whose config says the platform of its number.
    struct Numbered(Vec<&'static str>);

    fn manifest(number: usize) -> ImageManifest {
        let config = Descriptor {
            media_type: "application/vnd.oci.image.config.v1+json".into(),
            digest: Digest::of(&[number as u8]),
            size: number as u64,
        };
        ImageManifest { config, layers: Vec::new(), artifact_type: String::new(), has_subject: false }
    }

    impl Documents for Numbered {
        fn document(&self, descriptor: &Descriptor) -> Result<Document> {
            Ok(Document::Manifest(manifest(descriptor.size as usize)))
        }

        fn config(&self, manifest: &ImageManifest) -> Result<ImageConfig> {
            let platform = self.0[manifest.config.size as usize].trim_start_matches('?');
            let platform = Platform::parse(platform).unwrap();
            let Platform { os, architecture, variant } = platform;
            Ok(ImageConfig { os, architecture, variant, ..ImageConfig::default() })
        }
    }

    /// What is chosen among platforms; with `?` an entry does not say it.
    fn chosen(platforms: &[&'static str], wanted: &str, is_strict: bool) -> Result<usize, Status> {
        let entry = |(number, text): (usize, &&str)| IndexEntry {
            descriptor: Descriptor {
                media_type: media_type::OCI_MANIFEST.into(),
                digest: Digest::of(&[number as u8]),
                size: number as u64,
            },
            platform: (!text.starts_with('?')).then(|| Platform::parse(text).unwrap()),
            annotations: BTreeMap::new(),
            artifact_type: String::new(),
            os_features: Vec::new(),
        };
        let index = ImageIndex { manifests: platforms.iter().enumerate().map(entry).collect() };
        let wanted = WantedPlatform::new(Some(&Platform::parse(wanted).unwrap()), is_strict);
        let choice = choose(&index, "index", &wanted, &Numbered(platforms.to_vec())).unwrap();
        choice.map(|chosen| chosen.way[0].size as usize).map_err(|error| error.status())
    }

    #[test]
    fn the_best_that_runs_is_chosen() {
        use Status::{NotFound, Unsupported};
        let several = ["unknown/unknown", "linux/386", "linux/arm/v5", "linux/arm/v7", "linux/arm64", "windows/amd64"];
        for (platforms, wanted, is_strict, expected) in [
            (&several[..], "linux/arm64/v8", true, Ok(4)),
            (&several, "linux/arm64/v9", false, Ok(4)),
            (&several, "linux/arm/v8", false, Ok(3)),
            (&several, "linux/arm/v6", false, Ok(2)),
            (&several, "linux/arm/v6", true, Err(NotFound)),
            (&several, "linux/amd64", false, Ok(1)),
            (&several, "linux/amd64", true, Err(NotFound)),
            (&several, "linux/riscv64", false, Err(NotFound)),
            (&several, "windows/amd64", false, Ok(5)),
            (&["unknown/unknown"], "linux/amd64", false, Err(Unsupported)),
            (&[], "linux/amd64", false, Err(NotFound)),
            // Where an entry does not say it, its config does.
            (&["?linux/arm64", "?linux/amd64"], "linux/amd64", false, Ok(1)),
            (&["?linux/arm64"], "linux/amd64", false, Err(NotFound)),
            (&["linux/386", "?linux/amd64"], "linux/amd64", false, Ok(1)),
            (&["linux/amd64", "?linux/amd64"], "linux/amd64", false, Ok(0)),
            (&["?linux/amd64", "linux/amd64"], "linux/amd64", false, Ok(1)),
            (&["?linux/386", "?linux/amd64"], "linux/amd64", false, Ok(1)),
            (&["linux/amd64", "linux/amd64"], "linux/amd64", false, Ok(0)),
        ] {
            assert_eq!(chosen(platforms, wanted, is_strict), expected, "{platforms:?} {wanted}");
        }
    }
}

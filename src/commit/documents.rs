//! How config and manifest grow by a layer (OCI image-spec, config.md and manifest.md). What is not known here stays as the base
//! has it.

use serde_json::{Map, Value, json};

use super::options::{CommitOptions, ConfigChanges, LayerCompression};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::oci::{Platform, media_type};

/// A layer as its image describes it.
pub(super) struct NewLayer<'a> {
    pub(super) digest: &'a Digest,
    pub(super) size: u64,
    pub(super) diff_id: &'a Digest,
}

/// The base of an image: all of its layers, or the lowest of them.
#[derive(Clone, Copy)]
pub(super) struct Base<'a> {
    pub(super) image: &'a Image,
    /// The bytes of its manifest.
    pub(super) manifest: &'a [u8],
    /// How many of its layers stay.
    pub(super) layers: usize,
}

/// The config of the base, or of none, with one layer more, or as many.
pub(super) fn grow_config(
    base: Option<Base<'_>>,
    layer: Option<&NewLayer<'_>>,
    created: &str,
    options: &CommitOptions,
) -> Result<Vec<u8>> {
    let mut config = match base {
        Some(base) => object(&base.image.config_bytes, "config")?,
        None => {
            let host = Platform::host();
            let mut config = Map::new();
            config.insert("architecture".to_owned(), json!(host.architecture()));
            config.insert("os".to_owned(), json!(host.os()));
            if !host.variant().is_empty() {
                config.insert("variant".to_owned(), json!(host.variant()));
            }
            config
        }
    };
    put(&mut config, "created", json!(created));
    if !options.author.is_empty() {
        put(&mut config, "author", json!(options.author));
    }
    let kept = base.map_or(0, |base| base.layers);
    let diff_ids = list(entry(&mut config, "rootfs", || json!({"type": "layers"}))?, "diff_ids")?;
    diff_ids.truncate(kept);
    diff_ids.extend(layer.map(|layer| json!(layer.diff_id.as_str())));
    let mut history = json!({ "created": created });
    if layer.is_none() {
        history["empty_layer"] = json!(true);
    }
    for (key, text) in [("created_by", &options.created_by), ("author", &options.author), ("comment", &options.message)]
    {
        if !text.is_empty() {
            history[key] = json!(text);
        }
    }
    let steps = list(&mut config, "history")?;
    // What made layers that are one now has none of its own.
    let mut made = 0;
    for step in steps.iter_mut() {
        let wrong = || Error::new(Status::Malformed, "the base's history has a step that is no JSON object");
        let step = step.as_object_mut().ok_or_else(wrong)?;
        let is_empty = step.get(&key_in(step, "empty_layer")) == Some(&json!(true));
        made += usize::from(!is_empty);
        if !is_empty && made > kept {
            put(step, "empty_layer", json!(true));
        }
    }
    steps.push(history);
    change(entry(&mut config, "config", || json!({}))?, &options.changes)?;
    bytes(&Value::Object(config))
}

/// How a layer on top of a base is stored: by default as zstd, of which Docker's own media types say nothing.
pub(super) fn compression_on(base: Option<Base<'_>>, options: &CommitOptions) -> LayerCompression {
    let is_docker = base.is_some_and(|base| media_type::is_docker_config(&base.image.manifest.config.media_type));
    match options.compression {
        LayerCompression::ByBase if is_docker => LayerCompression::Gzip,
        LayerCompression::ByBase => LayerCompression::Zstd,
        asked => asked,
    }
}

/// The manifest of the base, or of none, with that config, and one layer more, or as many.
pub(super) fn grow_manifest(
    base: Option<Base<'_>>,
    layer: Option<&NewLayer<'_>>,
    config: (&Digest, usize),
    options: &CommitOptions,
) -> Result<Vec<u8>> {
    let is_docker = base.is_some_and(|base| media_type::is_docker_config(&base.image.manifest.config.media_type));
    let mut manifest = match base {
        Some(base) => object(base.manifest, "manifest")?,
        None => object(
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST}).to_string().as_bytes(),
            "manifest",
        )?,
    };
    // It is another image, which the signature or the artifact of the base says nothing of.
    manifest.remove("subject");
    let config_type = match base {
        Some(base) => base.image.manifest.config.media_type.clone(),
        None => media_type::OCI_CONFIG.to_owned(),
    };
    let descriptor = |media_type: &str, digest: &Digest, size: u64| json!({"mediaType": media_type, "digest": digest.as_str(), "size": size});
    manifest.insert("config".to_owned(), descriptor(&config_type, config.0, config.1 as u64));
    let suffix = match (compression_on(base, options), is_docker) {
        (LayerCompression::Plain, _) => "",
        (LayerCompression::Gzip, false) => "+gzip",
        (LayerCompression::Gzip, true) => ".gzip",
        (_, false) => "+zstd",
        (_, true) => ".zstd",
    };
    let layer_type = if is_docker { media_type::DOCKER_LAYER } else { media_type::OCI_LAYER };
    let layers = list(&mut manifest, "layers")?;
    layers.truncate(base.map_or(0, |base| base.layers));
    layers.extend(layer.map(|layer| descriptor(&format!("{layer_type}{suffix}"), layer.digest, layer.size)));
    if !options.annotations.is_empty() {
        let annotations = entry(&mut manifest, "annotations", || json!({}))?;
        options.annotations.iter().for_each(|(key, value)| drop(annotations.insert(key.clone(), json!(value))));
    }
    bytes(&Value::Object(manifest))
}

fn change(run: &mut Map<String, Value>, changes: &ConfigChanges) -> Result<()> {
    for (key, words) in [("Entrypoint", &changes.entrypoint), ("Cmd", &changes.cmd)] {
        match words {
            Some(words) if words.is_empty() => drop(run.remove(&key_in(run, key))),
            Some(words) => put(run, key, json!(words)),
            None => {}
        }
    }
    for (key, text) in
        [("WorkingDir", &changes.working_dir), ("User", &changes.user), ("StopSignal", &changes.stop_signal)]
    {
        if let Some(text) = text {
            put(run, key, json!(text));
        }
    }
    let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    if !changes.env.is_empty() || !changes.unset_env.is_empty() {
        let variables = list(run, "Env")?;
        let goes = |variable: &Value| {
            let name = variable.as_str().map(name_of).unwrap_or_default();
            changes.unset_env.contains(&name)
        };
        variables.retain(|variable| !goes(variable));
        for variable in &changes.env {
            let name = name_of(variable);
            if name.is_empty() || !variable.contains('=') {
                return Err(Error::new(Status::InvalidArgument, format!("variable {variable:?}: is not NAME=value")));
            }
            // In its place, so that what comes first stays first.
            match variables.iter_mut().find(|found| found.as_str().map(name_of).as_ref() == Some(&name)) {
                Some(found) => *found = json!(variable),
                None => variables.push(json!(variable)),
            }
        }
    }
    if !changes.labels.is_empty() || !changes.unset_labels.is_empty() {
        let labels = entry(run, "Labels", || json!({}))?;
        changes.unset_labels.iter().for_each(|key| drop(labels.remove(key)));
        changes.labels.iter().for_each(|(key, value)| drop(labels.insert(key.clone(), json!(value))));
    }
    for (key, names) in [("ExposedPorts", &changes.exposed_ports), ("Volumes", &changes.volumes)] {
        if !names.is_empty() {
            let set = entry(run, key, || json!({}))?;
            names.iter().for_each(|name| drop(set.insert(name.clone(), json!({}))));
        }
    }
    Ok(())
}

fn object(bytes: &[u8], what: &str) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Error::new(Status::Malformed, format!("the base's {what} is no JSON object"))),
    }
}

/// The key that a document has for this one. Go's readers take keys in either case, and so do we ([`crate::oci`]).
fn key_in(map: &Map<String, Value>, key: &str) -> String {
    let plain = |key: &str| key.replace('_', "").to_ascii_lowercase();
    map.keys().find(|found| plain(found) == plain(key)).map_or_else(|| key.to_owned(), Clone::clone)
}

fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    let key = key_in(map, key);
    map.insert(key, value);
}

/// The object of this key, which is made unless it is there. Docker writes `null` for what is empty.
fn entry<'m>(
    map: &'m mut Map<String, Value>,
    key: &str,
    new: impl FnOnce() -> Value,
) -> Result<&'m mut Map<String, Value>> {
    let value = map.entry(key_in(map, key)).or_insert(Value::Null);
    if value.is_null() {
        *value = new();
    }
    let wrong = || Error::new(Status::Malformed, format!("the base's {key} is no JSON object"));
    value.as_object_mut().ok_or_else(wrong)
}

fn list<'m>(map: &'m mut Map<String, Value>, key: &str) -> Result<&'m mut Vec<Value>> {
    let value = map.entry(key_in(map, key)).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    let wrong = || Error::new(Status::Malformed, format!("the base's {key} is no JSON list"));
    value.as_array_mut().ok_or_else(wrong)
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|cause| Error::new(Status::Internal, cause.to_string()))
}

/// RFC 3339, in UTC, from seconds since 1970. Years beyond four digits are those of the last one that has them.
pub(super) fn rfc3339(seconds: i64) -> String {
    /// 9999-12-31T23:59:59Z, and year 0.
    const LAST: i64 = 253_402_300_799;
    const FIRST: i64 = -62_167_219_200;
    let seconds = seconds.clamp(FIRST, LAST);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, so that a leap day ends its year (the proleptic Gregorian calendar of 400 years).
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text, "{seconds}");
        }
    }
}

//! Who answers for a registry: its mirrors in their order, then the registry itself, unless it is among them. From the call's
//! options and from a folder of the host's ([`super::hosts_dir`]); what both say of one host is merged here and nowhere else.

use super::host::{Host, Settings};
use super::hosts_dir::RegistryHosts;
use super::options::PullOptions;
use crate::error::{Error, Result, Status};
use crate::oci::Reference;

/// The hosts for a reference in the order in which they are asked. Without the registry itself where the options leave it
/// out.
pub(super) fn of(reference: &Reference, options: &PullOptions) -> Result<Vec<Host>> {
    let known = |name: &str| options.registries.iter().find(|registry| registry.host == name);
    let own = known(&reference.registry).or_else(|| known(reference.host()));
    let folder = match &options.hosts_dir {
        Some(folder) => RegistryHosts::read(folder, reference)?,
        None => RegistryHosts::default(),
    };
    let invalid = |why| Error::new(Status::InvalidArgument, why);
    let mut hosts: Vec<Host> = Vec::new();
    let mut add = |host: Host| match hosts.iter_mut().find(|known| known.is_same(&host)) {
        Some(known) => known.settings.merge(host.settings),
        None => hosts.push(host),
    };
    for mirror in own.iter().flat_map(|own| &own.mirrors) {
        add(Host::new(mirror, false, Settings::default()).map_err(invalid)?);
    }
    folder.hosts.into_iter().for_each(&mut add);
    // What the folder says at its top is of the registry itself, which is there or where it always is. If it is among the
    // others, it has its place and its settings there (containerd's rule).
    let scheme = if own.is_some_and(|own| own.plain_http) { "http" } else { "https" };
    let usual = Host::new(&format!("{scheme}://{}", reference.host()), false, Settings::default()).map_err(invalid)?;
    let server = folder.server.unwrap_or_else(|| usual.clone().with(folder.settings));
    if !hosts.iter().any(|host| host.is_same(&server)) {
        hosts.push(server.clone());
    }
    for host in &mut hosts {
        host.is_origin = host.is_same(&server) || host.is_same(&usual);
        if !host.is_called(reference) {
            host.namespace = Some(reference.registry.clone());
        }
        // What is said of the registry is not said of somebody in its place.
        let name = host.name();
        if let Some(said) = if host.is_own(reference) { own } else { known(&name) } {
            let mut settings = Settings::of(said)?;
            settings.merge(std::mem::take(&mut host.settings));
            host.settings = settings;
        }
    }
    hosts.retain(|host| !(options.mirrors_only && host.is_origin));
    if hosts.is_empty() {
        let why = format!("{} has no mirrors, and is not to be asked itself", reference.registry);
        return Err(invalid(why));
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::RegistryOptions;

    /// The hosts that options come to, as text: address, settings, whether it is the registry.
    fn hosts(reference: &str, change: impl Fn(&mut PullOptions)) -> Vec<String> {
        let mut options = PullOptions::default();
        change(&mut options);
        let hosts = of(&Reference::parse(reference).unwrap(), &options).unwrap();
        let shown = |host: &Host| {
            let origin = if host.is_origin { " origin" } else { "" };
            let namespace = host.namespace.as_ref().map_or_else(String::new, |namespace| format!(" ns={namespace}"));
            format!("{}{origin}{namespace}", host.base)
        };
        hosts.iter().map(shown).collect()
    }

    #[test]
    fn mirrors_of_the_call_come_before_the_registry_and_each_host_once() {
        let mut registry = RegistryOptions::new("docker.io");
        registry.mirrors = ["https://m", "http://n:1/cache/", "https://m/v2", "https://registry-1.docker.io"]
            .map(str::to_owned)
            .into();
        assert_eq!(
            hosts("alpine", |options| options.registries = vec![registry.clone()]),
            [
                "https://m/v2/ ns=docker.io",
                "http://n:1/cache/v2/ ns=docker.io",
                "https://registry-1.docker.io/v2/ origin"
            ]
        );
        assert_eq!(hosts("r.example:443/x", |_| {}), ["https://r.example/v2/ origin"]);
        let alone = hosts("alpine", |options| {
            options.registries = vec![registry.clone()];
            options.mirrors_only = true;
        });
        assert_eq!(alone.len(), 2);
    }
}

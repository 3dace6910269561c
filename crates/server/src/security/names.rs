//! `Allowed`: the exact lists of host names and origins under which this server may be called.
//!
//! A page on any web site can make its visitor's browser call `localhost`. Two headers that a page cannot forge stop
//! it: `Host` (a site that rebinds its own name to 127.0.0.1 still sends its own name) and `Origin`. Names are compared
//! whole, never by suffix. Ports of `Host` do not matter: tunnels and containers map them.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::uri::{Authority, Uri};

use crate::config::ConfigError;

/// The names and origins under which this server may be called.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    /// Lower-case names, IPv6 addresses without brackets.
    hosts: HashSet<String>,
    /// `scheme://host[:port]`, lower-case.
    origins: HashSet<String>,
}

impl Allowed {
    /// The loopback names, the host that was asked for, and the configured lists, for a server bound to `address`.
    pub(crate) fn new(host: &str, address: SocketAddr, hosts: &[String], origins: &[String]) -> Self {
        let loopback = ["localhost", "127.0.0.1", "::1"];
        let bound = address.ip().to_string();
        let asked = host.trim_matches(['[', ']']);
        let names = loopback.into_iter().chain([asked, &bound]).chain(hosts.iter().map(String::as_str));
        let own = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("http://{name}:{}", address.port()));
        Self {
            hosts: names.map(|name| name.trim_matches(['[', ']']).to_ascii_lowercase()).collect(),
            origins: own
                .into_iter()
                .chain(origins.iter().map(|origin| origin.to_ascii_lowercase()))
                .collect(),
        }
    }

    /// Whether the request names a host of this server: in the list, or the very address that it came in on (which a
    /// server that listens on all addresses cannot know beforehand; a rebound name is never an address).
    pub(crate) fn host(&self, uri: &Uri, headers: &HeaderMap, local: IpAddr) -> bool {
        let mut values = headers.get_all(HOST).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some(header) = value.to_str().ok().and_then(host_of) else { return false };
        // A request line may carry a host too; the two must not tell different stories.
        if uri.authority().is_some_and(|authority| host_of(authority.as_str()).as_ref() != Some(&header)) {
            return false;
        }
        self.hosts.contains(&header) || header.parse::<IpAddr>().is_ok_and(|ip| ip == local.to_canonical())
    }

    /// Whether a request with these headers may come from its origin: none given (not a browser, or a page of ours
    /// that only reads), in the list, or the page of this very host. The host must have been checked before.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(ORIGIN).iter();
        let origin = match (values.next(), values.next()) {
            (None, _) => return true,
            (Some(origin), None) => origin,
            _ => return false,
        };
        let Ok(origin) = origin.to_str().map(str::to_ascii_lowercase) else { return false };
        if self.origins.contains(&origin) {
            return true;
        }
        let same_host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some() && authority == same_host.as_deref()
    }

    /// The origins of the list, for CORS headers.
    pub(crate) fn is_listed(&self, origin: &[u8]) -> bool {
        std::str::from_utf8(origin).is_ok_and(|origin| self.origins.contains(&origin.to_ascii_lowercase()))
    }
}

/// The host of `host[:port]`, lower-case and without brackets. `None` for anything else, user names included.
fn host_of(text: &str) -> Option<String> {
    let authority: Authority = text.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    (!host.is_empty()).then_some(host)
}

/// Checks the configured lists, so that a typing error is found at the start and not by a puzzled client.
pub(crate) fn check_lists(hosts: &[String], origins: &[String]) -> Result<(), ConfigError> {
    for host in hosts {
        let bare = host.parse::<IpAddr>().is_ok();
        if !bare
            && host_of(host).is_none_or(|name| name != host.trim_matches(['[', ']']).to_ascii_lowercase())
        {
            let message = format!("`{host}` is no host name; write it without scheme and port");
            return Err(ConfigError::invalid("allowed_hosts", message));
        }
    }
    for origin in origins {
        let rest = origin.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
        if rest.is_none_or(|rest| host_of(rest).is_none() || rest.contains('/')) {
            let message = format!("`{origin}` is no origin; write scheme://host or scheme://host:port");
            return Err(ConfigError::invalid("allowed_origins", message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: &str, address: &str) -> Allowed {
        let hosts = ["mac.local".to_owned()];
        Allowed::new(host, address.parse().unwrap(), &hosts, &["app://obsidian.md".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn host_ok(allowed: &Allowed, host: &str, local: &str) -> bool {
        allowed.host(&Uri::from_static("/"), &headers(&[("host", host)]), local.parse().unwrap())
    }

    #[test]
    fn hosts_are_compared_whole_and_whatever_their_port() {
        let allowed = allowed("127.0.0.1", "127.0.0.1:8080");
        for good in ["localhost:8080", "LocalHost", "127.0.0.1:9000", "[::1]:8080", "mac.local", "[::1]"] {
            assert!(host_ok(&allowed, good, "127.0.0.1"), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example:8080",
            "evil-localhost",
            "127.0.0.1.nip.io",
            "127.0.0.1.",
            "localhost@evil.example",
            "evil.example@localhost",
            "localhost:8080:8080",
            "[::1",
            "192.168.1.2",
            "0.0.0.0",
            "",
            "localhost, evil.example",
        ] {
            assert!(!host_ok(&allowed, bad, "127.0.0.1"), "{bad}");
        }
    }

    #[test]
    fn a_missing_doubled_or_contradicted_host_is_refused() {
        let allowed = allowed("127.0.0.1", "127.0.0.1:8080");
        let local = "127.0.0.1".parse().unwrap();
        assert!(!allowed.host(&Uri::from_static("/"), &HeaderMap::new(), local));
        let mut doubled = headers(&[("host", "localhost")]);
        doubled.append("host", "evil.example".parse().unwrap());
        assert!(!allowed.host(&Uri::from_static("/"), &doubled, local));
        let absolute = Uri::from_static("http://evil.example/v1/models");
        assert!(!allowed.host(&absolute, &headers(&[("host", "localhost")]), local));
    }

    #[test]
    fn a_server_on_all_addresses_answers_to_the_address_that_was_called() {
        let allowed = allowed("0.0.0.0", "0.0.0.0:8080");
        assert!(host_ok(&allowed, "192.168.1.2:8080", "192.168.1.2"));
        assert!(host_ok(&allowed, "192.168.1.2:8080", "::ffff:192.168.1.2"));
        assert!(!host_ok(&allowed, "192.168.1.3:8080", "192.168.1.2"));
        assert!(!host_ok(&allowed, "rebound.example:8080", "192.168.1.2"));
    }

    #[test]
    fn origins_are_the_own_pages_and_those_of_the_list() {
        let allowed = allowed("127.0.0.1", "127.0.0.1:8080");
        let origin =
            |origin: &str, host: &str| allowed.origin(&headers(&[("origin", origin), ("host", host)]));
        assert!(allowed.origin(&headers(&[("host", "localhost")])), "not a browser");
        assert!(origin("http://localhost:8080", "127.0.0.1:8080"));
        assert!(origin("app://obsidian.md", "localhost:8080"));
        assert!(origin("http://mac.local:8080", "mac.local:8080"), "the page of this very host");
        for bad in [
            "null",
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "http://localhost:8080.evil.example",
            "http://evil.example/localhost:8080",
            "file://",
            "",
        ] {
            assert!(!origin(bad, "localhost:8080"), "{bad}");
        }
    }
}

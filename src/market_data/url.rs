//! Addresses: what goes into one is escaped, and what is said of one never holds a key.

/// A source's address. Printed, it is only the server: a user and a password may stand in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(pub String);

impl std::ops::Deref for Address {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(origin(&self.0))
    }
}

/// A text as it stands in a path or a query (RFC 3986: what is not unreserved is escaped).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Scheme, host and port: what may be said of an address.
pub fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    // A user and a password may stand before the host.
    match url[host..end].rfind('@') {
        Some(at) => &url[host + at + 1..end],
        None => &url[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_escaped() {
        assert_eq!(escape("BRK.B"), "BRK.B");
        assert_eq!(escape("EURUSD=X"), "EURUSD%3DX");
        assert_eq!(escape("a/../b?c&d"), "a%2F..%2Fb%3Fc%26d");
    }

    #[test]
    fn of_an_address_only_the_host_is_told() {
        assert_eq!(origin("https://api.example:8443/query?apikey=secret"), "https://api.example:8443");
        assert_eq!(origin("http://user:secret@api.example/x"), "api.example");
    }
}

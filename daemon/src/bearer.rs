//! Tokens that programs send in the header `Authorization`.

/// The token of a header `Authorization: Bearer TOKEN`. `None`: the header has another scheme.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

//! Cookies as they come and go (RFC 6265): ours alone, so their values need no quoting.
//! Invariant: a cookie of ours is never for scripts (`HttpOnly`), nor sent along with what other sites
//! do in the background (`SameSite=Lax`).

use actix_web::http::header::{self, HeaderMap, HeaderValue};

/// The values that a request shows under a name: several when somebody planted one.
pub(crate) fn shown<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(move |pair| {
        let (shown, value) = pair.trim_ascii().split_once('=')?;
        (shown == name).then_some(value)
    })
}

/// The `Set-Cookie` of a cookie that lasts as long as the browser's session does.
pub(crate) fn set(name: &str, value: &str, secure: bool) -> Option<HeaderValue> {
    whole(&format!("{name}={value}"), secure)
}

/// The `Set-Cookie` that takes it back.
pub(crate) fn clear(name: &str, secure: bool) -> Option<HeaderValue> {
    whole(&format!("{name}=; Max-Age=0"), secure)
}

/// `None` when a name or value cannot stand in a header: ours all can.
fn whole(pair: &str, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{pair}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_only_under_its_whole_name() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; session=x;  theme=dark", "session=y", "xsession=z; session", "session=p=q"] {
            headers.append(header::COOKIE, HeaderValue::from_static(line));
        }
        assert_eq!(shown(&headers, "session").collect::<Vec<_>>(), ["x", "y", "p=q"]);
        assert_eq!(shown(&headers, "Session").next(), None);
    }

    #[test]
    fn what_is_set_is_for_this_site_and_no_script() {
        let set = set("__Host-session", "v", true).unwrap();
        assert_eq!(set, "__Host-session=v; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(clear("session", false).unwrap(), "session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax");
    }
}

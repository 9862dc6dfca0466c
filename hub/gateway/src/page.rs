//! The web page, embedded in the binary: the document at `/` for browsers, and its parts under `/page/`. The files in
//! `page/` are written by hand and served as they are, without a build step.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hub_base::error::{Code, Error};

use crate::app::App;
use crate::json::Failure;
use crate::params::Text;

/// Allows only files of this hub, and no inline scripts or styles. A cat's name can therefore not become a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The browser revalidates its copy each time, so that all parts are of one version.
const CACHE: &str = "no-cache";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page.
#[derive(Debug, Clone, Copy)]
struct Part {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! part {
    ($name:literal, $content_type:expr) => {
        Part { name: $name, content_type: $content_type, content: include_str!(concat!("page/", $name)) }
    };
}

const DOCUMENT: Part = part!("index.html", "text/html; charset=utf-8");

const PARTS: &[Part] = &[
    part!("analysis.js", SCRIPT),
    part!("api.js", SCRIPT),
    part!("app.js", SCRIPT),
    part!("aside.js", SCRIPT),
    part!("backup.js", SCRIPT),
    part!("cat.js", SCRIPT),
    part!("dom.js", SCRIPT),
    part!("event.js", SCRIPT),
    part!("events.js", SCRIPT),
    part!("icon.svg", "image/svg+xml"),
    part!("labels.js", SCRIPT),
    part!("listening.js", SCRIPT),
    part!("login.js", SCRIPT),
    part!("node.js", SCRIPT),
    part!("notices.js", SCRIPT),
    part!("now.js", SCRIPT),
    part!("people.js", SCRIPT),
    part!("player.js", SCRIPT),
    part!("preview.js", SCRIPT),
    part!("privacy.js", SCRIPT),
    part!("rhythm.js", SCRIPT),
    part!("row.js", SCRIPT),
    part!("spectrum.js", SCRIPT),
    part!("stream.js", SCRIPT),
    part!("style.css", "text/css; charset=utf-8"),
    part!("theme.js", SCRIPT),
    part!("waiting.js", SCRIPT),
    part!("wave.js", SCRIPT),
    part!("words.js", SCRIPT),
];

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/page/{name}", get(part))
}

/// The document, which is served at `/` to clients that accept HTML.
pub(super) fn document(headers: &HeaderMap) -> Response {
    answer(DOCUMENT, headers)
}

async fn part(Text(name): Text, headers: HeaderMap) -> Result<Response, Failure> {
    let part = PARTS.iter().find(|part| part.name == name);
    let part = part.ok_or_else(|| Error::new(Code::NotFound, format!("the page has no file {name:?}")))?;
    Ok(answer(*part, &headers))
}

fn answer(part: Part, headers: &HeaderMap) -> Response {
    let mut hasher = DefaultHasher::new();
    hasher.write(part.content.as_bytes());
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let has_it = known.flat_map(|tags| tags.split(',')).any(|one| one.trim().trim_start_matches("W/") == tag);
    let common = [(ETAG, tag.as_str()), (CACHE_CONTROL, CACHE), (VARY, "Accept"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if has_it {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let about = [
        (CONTENT_TYPE, part.content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        // Does not reveal addresses of the home network to other sites.
        (REFERRER_POLICY, "no-referrer"),
    ];
    (common, about, part.content).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hub_listen::live::NodeState;
    use hub_nodes::state_word;
    use hub_store::events::{NoClip, OwnerLabel};
    use hub_watch::condition::Condition;
    use proto::SourceState;
    use sound::detector::Kind;

    use super::*;

    /// Loaded when somebody opens their views, or once the first view is shown.
    const LOADED_LATER: [&str; 9] = [
        "aside.js",
        "backup.js",
        "cat.js",
        "labels.js",
        "login.js",
        "people.js",
        "preview.js",
        "privacy.js",
        "rhythm.js",
    ];

    /// Phones on a slow link load the page too.
    const MOST_BYTES: usize = 100_000;

    #[test]
    fn the_page_is_small() {
        let at_once = PARTS.iter().chain([&DOCUMENT]).filter(|part| !LOADED_LATER.contains(&part.name));
        let bytes: usize = at_once.map(|part| part.content.len()).sum();
        assert!(bytes < MOST_BYTES, "{bytes} bytes");
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_every_import_is_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page");
        for file in std::fs::read_dir(folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert!(name == DOCUMENT.name || PARTS.iter().any(|part| part.name == name), "{name} is not served");
        }
        for part in PARTS {
            for (_, rest) in
                part.content.match_indices(" from './").map(|(at, found)| part.content.split_at(at + found.len()))
            {
                let name = rest.split('\'').next().unwrap();
                assert!(PARTS.iter().any(|other| other.name == name), "{}: {name} is missing", part.name);
            }
        }
    }

    /// The words that a table of `words.js` has texts for.
    fn texts_for(table: &str) -> BTreeSet<&'static str> {
        let words = PARTS.iter().find(|part| part.name == "words.js").unwrap().content;
        let (_, rest) = words.split_once(&format!("export const {table} = {{")).unwrap();
        let (rows, _) = rest.split_once('}').unwrap();
        let entries = rows.split(",\n").flat_map(|row| row.split(", "));
        entries.filter_map(|entry| entry.split_once(": '")).map(|(word, _)| word.trim()).collect()
    }

    #[test]
    fn page_has_a_text_for_every_word_of_the_api() {
        let own = ["unwatched", "no_audio", "unknown"];
        let states = NodeState::ALL.map(NodeState::as_str).into_iter().chain(own).collect();
        let labels = OwnerLabel::WORDS.iter().copied().collect();
        let sources = (0..).map_while(|n| SourceState::try_from(n).ok()).map(state_word).collect();
        for (table, words) in [
            ("states", states),
            ("conditions", Condition::ALL.map(Condition::as_str).into_iter().collect()),
            ("sources", sources),
            ("contexts", labels),
            ("kinds", Kind::ALL.map(Kind::as_str).into_iter().collect()),
            ("noClip", NoClip::WORDS.iter().copied().collect()),
        ] {
            let words: BTreeSet<_> = words;
            assert!(words.len() >= 3, "{table}: {words:?}");
            assert_eq!(texts_for(table), words, "{table}");
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_is_written_into_the_document() {
        for part in PARTS.iter().chain([&DOCUMENT]) {
            let content = part.content.replace("http://www.w3.org/2000/svg", "").replace("http://ADDRESS", "");
            for foreign in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!content.contains(foreign), "{}: {foreign}", part.name);
            }
        }
        for inline in [" onclick=", " onload=", " style=", "<style", "<script>"] {
            assert!(!DOCUMENT.content.contains(inline), "{inline}");
        }
    }
}

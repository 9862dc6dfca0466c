//! README and `docs/` are true: links lead somewhere, config examples and documented defaults are accepted, the API
//! page names every route and its `curl` lines work.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::binaries::{binaries, workspace};
use e2e::daemon::run;
use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions};
use e2e::wait::{SOON, until};
use serde_json::Value;

/// A data folder, or a file to write, that cannot exist: a program whose config is good fails there, before it serves.
const NOWHERE: &str = "/dev/null/nowhere";

/// Exit codes of both programs.
const FAILED: Option<i32> = Some(1);
const BAD_CONFIG: Option<i32> = Some(64);

/// How long a `curl` line may run, in seconds. Live streams (`-N`) never end and are cut off.
const CURL_SECONDS: u32 = 20;
const STREAM_SECONDS: u32 = 2;

/// curl's exit code for a transfer that was cut off by that limit.
const CURL_TIMED_OUT: Option<i32> = Some(28);

/// One Markdown file.
struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block.
struct Block {
    language: String,
    text: String,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text }
    }

    fn of(name: &str) -> Self {
        Self::read(workspace().join(name))
    }

    /// README, changelog, and what is in `docs/`.
    fn all() -> Vec<Self> {
        let mut paths = vec![workspace().join("README.md"), workspace().join("CHANGELOG.md")];
        for folder in ["docs", "docs/monitoring"] {
            let entries = std::fs::read_dir(workspace().join(folder)).unwrap().map(|entry| entry.unwrap().path());
            paths.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
        }
        paths.into_iter().map(Self::read).collect()
    }

    fn name(&self) -> String {
        self.path.strip_prefix(workspace()).unwrap().display().to_string()
    }

    /// The lines outside fenced blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fence && !fenced
        })
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(language), None) => open = Some(Block { language: language.into(), text: String::new() }),
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block does not end", self.name());
        blocks
    }

    /// Targets of links and pictures.
    fn links(&self) -> Vec<String> {
        let target = |rest: &str| rest.split(')').next().unwrap().to_owned();
        self.prose().flat_map(|line| line.split("](").skip(1).map(target)).collect()
    }

    /// What stands between backticks.
    fn code_spans(&self) -> Vec<&str> {
        self.prose().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
    }

    /// Anchors of the headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings =
            self.prose().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        headings.map(anchor).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in Page::all() {
        for link in page.links().into_iter().filter(|link| !link.starts_with("https://")) {
            checked += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            let leads = target.exists() && (fragment.is_empty() || Page::read(target).anchors().contains(fragment));
            if !leads {
                wrong.push(format!("{}: {link}", page.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 50, "the control: {checked} links were found");
}

#[test]
fn every_file_and_make_target_that_is_named_is_there() {
    let root = workspace();
    let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap();
    let folders: Vec<String> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir() && entry.file_name() != "target")
        .map(|entry| format!("{}/", entry.file_name().into_string().unwrap()))
        .collect();
    let mut wrong = Vec::new();
    for page in Page::all() {
        // The transcripts are of earlier commits.
        if page.name().contains("transcript") {
            continue;
        }
        for path in page.code_spans() {
            let path = path.split([' ', ':']).next().unwrap();
            if folders.iter().any(|folder| path.starts_with(folder)) && !root.join(path).exists() {
                wrong.push(format!("{}: {path}", page.name()));
            }
        }
        let blocks = page.blocks();
        let in_blocks = blocks.iter().filter(|block| block.language == "sh").flat_map(|block| block.text.lines());
        for line in page.code_spans().into_iter().chain(in_blocks) {
            if let Some(target) = line.strip_prefix("make ").and_then(|rest| rest.split(' ').next())
                && !makefile.contains(&format!("\n{target}:"))
            {
                wrong.push(format!("{}: make {target}", page.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The file in which an example of a config stands, by its first line.
const NODE_CONFIG: &str = "# /etc/meowlink/cat-node.toml";
const HUB_CONFIG: &str = "# /etc/meowlink/hub.toml";
/// How the first line begins if it is one of several nodes.
const NODE_OF_SEVERAL: &str = "# /etc/meowlink/cat-node-";

/// Has a program read a config and fail right after that. Returns what was wrong with the config, if anything was.
fn refusal(first_line: &str, toml: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, toml).unwrap();
    let config = config.to_str().unwrap();
    let done = match first_line {
        line if line == NODE_CONFIG || line.starts_with(NODE_OF_SEVERAL) => {
            let arguments = ["record", NOWHERE, "--seconds", "1", "--config", config];
            // The service has a state folder, so its node may listen on all addresses.
            run(&binaries().cat_node, &arguments, &[("STATE_DIRECTORY", NOWHERE)])
        }
        HUB_CONFIG => {
            // One role is enough: all settings are checked, and no port of this machine is taken.
            let role = ["--only", "analysis", "--analysis", "127.0.0.1:0"];
            let arguments = [&["serve", "--config", config, "--data-dir", NOWHERE], &role[..]].concat();
            run(&binaries().hub, &arguments, &[])
        }
        other => panic!("{other:?} names neither {NODE_CONFIG:?} nor {HUB_CONFIG:?}"),
    };
    if done.code == BAD_CONFIG {
        return Some(done.stderr);
    }
    assert!(done.code == FAILED && done.stderr.contains(NOWHERE), "{:?}: {}", done.code, done.stderr);
    None
}

#[test]
fn every_example_of_a_config_is_accepted() {
    assert!(refusal(HUB_CONFIG, "no_such_key = 1").unwrap().contains("no_such_key"), "the control");
    assert!(refusal(NODE_CONFIG, "no_such_key = 1").unwrap().contains("no_such_key"), "the control");
    let mut examples = 0;
    for page in Page::all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "toml") {
            examples += 1;
            let first_line = block.text.lines().next().unwrap();
            if let Some(why) = refusal(first_line, &block.text) {
                panic!("{}:\n{}\n{why}", page.name(), block.text);
            }
        }
    }
    assert!(examples > 10, "the control: {examples} examples were found");
}

/// The settings of docs/configure.md: by section, the cells of each row.
fn settings() -> BTreeMap<String, Vec<Vec<String>>> {
    let page = Page::of("docs/configure.md");
    let mut settings = BTreeMap::<_, Vec<_>>::new();
    let mut section = String::new();
    for line in page.prose() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut section);
        } else if line.starts_with("| `") {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            assert_eq!(cells.len(), 5, "setting, type, default, range, meaning: {line}");
            settings.entry(section.clone()).or_default().push(cells);
        }
    }
    settings
}

/// The code in a cell that is nothing but one code span.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|code| !code.contains('`'))
}

#[test]
fn settings_of_the_page_are_those_of_the_example_files_and_their_defaults_are_accepted() {
    let settings = settings();
    for (file, first_line) in [("cat-node.toml", NODE_CONFIG), ("hub.toml", HUB_CONFIG)] {
        let example = std::fs::read_to_string(workspace().join("systemd").join(file)).unwrap();
        let is_hub = file == "hub.toml";
        let mut keys = BTreeSet::new();
        // What a table lacks when only its defaults are written out.
        let required = |section: &str| match section {
            "[[owners]]" => "name = \"Anna\"\nchannels = [{ type = \"log\" }]\n",
            "[mqtt]" => "url = \"mqtt://localhost\"\n",
            "[[node]]" => "url = \"http://localhost\"\n",
            _ => "",
        };
        let mut defaults = String::new();
        let sections = settings.iter().filter(|(section, _)| section.starts_with('[') && is_hub || *section == file);
        let (mut top, mut tables): (Vec<_>, Vec<_>) = sections.partition(|(section, _)| *section == file);
        top.append(&mut tables);
        for (section, rows) in top {
            // A channel is of one of four types, and no type has all of these settings.
            let is_channel = section == "[[owners.channels]]";
            if section.starts_with('[') && !is_channel {
                defaults += &format!("{section}\n{}", required(section));
            }
            for row in rows {
                let key = code(&row[0]).unwrap();
                assert!(keys.insert((section.clone(), key.to_owned())), "{section} {key} is there twice");
                // A key that may be given as tables is given as those.
                let has_tables = settings.contains_key(&format!("[[{key}]]"));
                if let Some(default) = code(&row[2]).filter(|_| !is_channel && !has_tables) {
                    defaults += &format!("{key} = {default}\n");
                }
            }
        }
        assert_eq!(refusal(first_line, &defaults), None, "{defaults}");

        let mut section = file.to_owned();
        for line in example.lines().filter_map(|line| line.strip_prefix("# ")) {
            if line.starts_with('[') {
                line.clone_into(&mut section);
            } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
                assert!(keys.contains(&(section.clone(), key.to_owned())), "docs/configure.md lacks {section} {key}");
            }
        }
    }
}

/// The settings of a program by its JSON Schema: section and key, the top level under the name of the file.
fn settings_of_the_schema(program: &Path, file: &str) -> BTreeSet<(String, String)> {
    let done = run(program, &["config", "schema"], &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut found = BTreeSet::new();
    collect(&serde_json::from_str(&done.stdout).unwrap(), file, "", "", &mut found);
    found
}

/// Collects the keys of a table. `path` is its name in headings, and `brackets` are those around it.
fn collect(table: &Value, file: &str, path: &str, brackets: &str, found: &mut BTreeSet<(String, String)>) {
    let section = match brackets.len() {
        0 => file.to_owned(),
        count => format!("{brackets}{path}{}", "]".repeat(count)),
    };
    let choices = ["anyOf", "oneOf"].into_iter().filter_map(|key| table[key].as_array()).flatten();
    for choice in choices {
        collect(choice, file, path, brackets, found);
    }
    for (name, property) in table["properties"].as_object().into_iter().flatten() {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let mut below = BTreeSet::new();
        collect(property, file, &inner, "[", &mut below);
        collect(&property["items"], file, &inner, "[[", &mut below);
        // The items of a list may be texts as well as tables.
        let has_texts = property["items"]["type"].as_array().is_some_and(|types| types.contains(&"string".into()));
        if below.is_empty() || has_texts {
            found.insert((section.clone(), name.clone()));
        }
        found.extend(below);
    }
}

#[test]
fn settings_of_the_page_are_those_of_the_schemas() {
    let mut of_the_page = BTreeSet::new();
    for (section, rows) in settings() {
        of_the_page.extend(rows.iter().map(|row| (section.clone(), code(&row[0]).unwrap().to_owned())));
    }
    let mut of_the_schemas = settings_of_the_schema(&binaries().cat_node, "cat-node.toml");
    of_the_schemas.append(&mut settings_of_the_schema(&binaries().hub, "hub.toml"));
    let lacking: Vec<_> = of_the_schemas.difference(&of_the_page).collect();
    let unknown: Vec<_> = of_the_page.difference(&of_the_schemas).collect();
    assert!(lacking.is_empty() && unknown.is_empty(), "not on the page: {lacking:?}; not in a schema: {unknown:?}");
    assert!(of_the_schemas.len() > 80, "the control: {} settings were found", of_the_schemas.len());
}

/// A hub and its node, which have been at work: two events are stored, and a notification was given up.
async fn at_work() -> (Hub, Node) {
    let at = Addresses::free();
    let meows = format!("wav:{}", workspace().join("demo/meows").display());
    let node = Node::start(NodeOptions { source: meows, ..NodeOptions::new(format!("http://{}", at.owner)) }).await;
    let config = "[notices]\nmax_tries = 1\n[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"webhook\"\n\
                  url = \"http://127.0.0.1:1/\"\n";
    let hub = Hub::start_with_config(at, &[("Tom", &node.url())], config).await;
    until(SOON, "two events are stored and notification 1 was given up", || async {
        let clips = [hub.get("/api/v1/events/1/clip.wav").await, hub.get("/api/v1/events/2/clip.wav").await];
        let dead = hub.get("/api/v1/notices?status=dead").await.json();
        let given_up = dead["notices"].as_array().is_some_and(|all| all.iter().any(|notice| notice["id"] == 1));
        (given_up && clips.iter().all(|clip| clip.status == 200)).then_some(())
    })
    .await;
    (hub, node)
}

/// Runs a `curl` line by a shell, and gives the HTTP status.
fn curl(line: &str, folder: &Path) -> String {
    std::fs::write(folder.join(".curlrc"), "silent\nshow-error\nwrite-out = \"%{stderr}\\n%{http_code}\"\n").unwrap();
    let is_stream = line.starts_with("curl -N ") || line.starts_with("curl -sN ");
    let seconds = if is_stream { STREAM_SECONDS } else { CURL_SECONDS };
    let done = Command::new("sh")
        .args(["-c", &line.replacen("curl ", &format!("curl --max-time {seconds} "), 1)])
        .current_dir(folder)
        .env("CURL_HOME", folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let was_cut_off = is_stream && done.status.code() == CURL_TIMED_OUT;
    assert!(done.status.success() || was_cut_off, "{line}: {:?} {said}", done.status);
    said.lines().last().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_curl_line_of_the_api_page_works() {
    let page = Page::of("docs/api.md");
    let (hub, node) = at_work().await;
    let folder = tempfile::tempdir().unwrap();
    let blocks = page.blocks().into_iter().filter(|block| block.language == "sh");
    let lines: Vec<String> =
        blocks.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(lines.len() > 25, "the control: {} lines were found", lines.len());
    for line in lines {
        assert!(line.starts_with("curl "), "not a curl line: {line}");
        let ours = line.replace("http://localhost:5000", &format!("http://{}", hub.at.http));
        let ours = ours.replace("http://localhost:50056", &node.url());
        // Without the player.
        let ours = ours.split(" | ").next().unwrap();
        // On a busy machine the node may be late with an answer.
        let status =
            until(SOON, &line, || async { Some(curl(ours, folder.path())).filter(|status| status != "503") }).await;
        assert!(["200", "204"].contains(&status.as_str()), "{line}: {status}");
    }
    for file in ["clip.wav", "spectrogram.png"] {
        assert!(folder.path().join(file).metadata().unwrap().len() > 1_000, "{file}");
    }

    let document = hub.get("/api/v1/openapi.json").await.json();
    let routes: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let named: BTreeSet<String> = page
        .code_spans()
        .into_iter()
        .filter(|span| ["GET /", "PUT /", "POST /", "DELETE /"].iter().any(|method| span.starts_with(method)))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, routes);
}

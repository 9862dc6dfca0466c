//! What a webhook posts: the hub's own JSON, or a message for a chat.

use hub_store::notifications::Notification;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::message::{Message, Payload, event_url};

/// Most characters of a message for Discord, by its documentation.
const DISCORD_CHARACTERS: usize = 2_000;

/// Most characters of a message for Slack: beyond that, Slack cuts it into several.
const SLACK_CHARACTERS: usize = 4_000;

/// What a webhook posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// The hub's own JSON.
    Json,
    /// A message for Discord.
    Discord,
    /// A message for Slack, and for what accepts messages for Slack: Mattermost, Rocket.Chat, Google Chat.
    Slack,
}

impl Format {
    /// The format that the host of a URL expects.
    pub(super) fn of_url(url: &str) -> Self {
        let url: Option<http::Uri> = url.parse().ok();
        match url.as_ref().and_then(http::Uri::host).unwrap_or_default().to_ascii_lowercase().as_str() {
            "discord.com" | "discordapp.com" | "canary.discord.com" | "ptb.discord.com" => Self::Discord,
            "hooks.slack.com" | "hooks.slack-gov.com" | "chat.googleapis.com" => Self::Slack,
            _ => Self::Json,
        }
    }

    /// The body for a notification.
    pub(super) fn body(self, notification: &Notification, message: &Message, public_url: Option<&str>) -> String {
        let link = event_url(&notification.subject, public_url).map_or_else(String::new, |url| format!("\n{url}"));
        match self {
            Self::Json => Payload::new(notification, message, public_url).to_json(),
            Self::Discord => {
                let text = format!("**{}**\n{}", unmarked(&message.title), unmarked(&message.text));
                // A cat may be called @everyone.
                let mentions = json!({ "parse": [] });
                json!({ "content": fitting(text, &link, DISCORD_CHARACTERS), "allowed_mentions": mentions }).to_string()
            }
            Self::Slack => {
                let text = format!("*{}*\n{}", escaped(&message.title), escaped(&message.text));
                json!({ "text": fitting(text, &escaped(&link), SLACK_CHARACTERS) }).to_string()
            }
        }
    }
}

/// A text without what Discord would take for markup.
fn unmarked(text: &str) -> String {
    let marks = ['\\', '*', '_', '~', '`', '|', '>', '#', '[', ']'];
    text.chars().flat_map(|letter| marks.contains(&letter).then_some('\\').into_iter().chain([letter])).collect()
}

/// A text as Slack reads it: without commands such as `<!channel>`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A text of at most `most` characters, its end included.
fn fitting(text: String, end: &str, most: usize) -> String {
    let room = most.saturating_sub(end.chars().count());
    if text.chars().count() <= room {
        return text + end;
    }
    let cut: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{cut}…{end}")
}

#[cfg(test)]
mod tests {
    use hub_store::testing::event_notification;
    use serde_json::Value;

    use super::*;

    fn body(format: Format, title: &str, text: &str) -> Value {
        let message = Message { title: title.into(), text: text.into() };
        serde_json::from_str(&format.body(&event_notification(7), &message, Some("http://hub:5000"))).unwrap()
    }

    #[test]
    fn chats_get_what_they_accept() {
        let discord = body(Format::Discord, "Tom_*", "@everyone: meow");
        let link = "http://hub:5000/#/events/7";
        assert_eq!(discord["content"], format!("**Tom\\_\\***\n@everyone: meow\n{link}"));
        assert_eq!(discord["allowed_mentions"]["parse"], json!([]), "nobody is mentioned");
        let slack = body(Format::Slack, "<!channel>", "a & b");
        assert_eq!(slack, json!({ "text": format!("*&lt;!channel&gt;*\na &amp; b\n{link}") }));
        let long = body(Format::Discord, "Tom", &"ü".repeat(5_000));
        let content = long["content"].as_str().unwrap();
        assert_eq!((content.chars().count(), content.ends_with(link)), (DISCORD_CHARACTERS, true));
        assert_eq!(body(Format::Json, "Tom", "meow")["event"]["id"], 7);
    }

    #[test]
    fn format_is_known_by_the_host() {
        for (url, format) in [
            ("https://discord.com/api/webhooks/1/a", Format::Discord),
            ("https://hooks.slack.com/services/a", Format::Slack),
            ("https://chat.googleapis.com/v1/spaces/a", Format::Slack),
            ("https://discord.com.example.org/", Format::Json),
            ("http://127.0.0.1:1/discord.com", Format::Json),
        ] {
            assert_eq!(Format::of_url(url), format, "{url}");
        }
    }
}

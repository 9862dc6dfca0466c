//! Query parameters that filter events.

use hub_base::error::{Code, Error};
use hub_base::time;
use hub_store::events::{Event, EventFilter};

use crate::app::App;
use crate::params::bad;

/// Declares a struct of query parameters: the given fields, followed by those that filter events. `serde(flatten)`
/// cannot be used: it does not parse numbers, and it does not allow `deny_unknown_fields`.
macro_rules! params_with_filter {
    ($(#[$outer:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        struct $name {
            $($(#[$inner])* $field: $type,)*
            /// Only events of this cat: the one that the owner named for the event, otherwise the one of the node.
            cat: Option<String>,
            /// Only events of this node: its URL, its id, or the first 16 digits of its id.
            node: Option<String>,
            /// Only events that began at this time or later (RFC 3339; write `+` as `%2B`).
            from: Option<String>,
            /// Only events that began before this time (RFC 3339; write `+` as `%2B`).
            to: Option<String>,
            /// Only events that count as this, by the owner's label or else by the classified context:
            /// `waiting_for_food`, `isolation`, `brushing`, `uncertain` or `not_a_cat`.
            context: Option<String>,
            /// Only events with this label of your own.
            own_label: Option<String>,
            /// Only events with at least this score, 0 to 1.
            min_score: Option<f32>,
            /// Of a sound that several nodes heard, only the event that is shown is returned. `true`: the events of the
            /// other nodes are returned too.
            #[param(default = false)]
            linked: Option<bool>,
            /// `false`: only events that nobody was notified of because they sounded like ones labelled `not_a_cat` or
            /// scored below the node's `min_score`, and that have no label. `true`: only other events.
            announced: Option<bool>,
        }

        impl $name {
            /// The filter that the parameters describe.
            fn filter(&self) -> Result<hub_store::events::EventFilter, hub_base::error::Error> {
                let plain = hub_store::events::EventFilter {
                    cat: self.cat.clone(),
                    node: self.node.clone(),
                    own_label: self.own_label.clone(),
                    min_score: self.min_score,
                    linked: self.linked.unwrap_or(false),
                    announced: self.announced,
                    ..Default::default()
                };
                let (from, to, context) = (self.from.as_deref(), self.to.as_deref(), self.context.as_deref());
                $crate::events::filter::checked(plain, from, to, context)
            }
        }
    };
}
pub(super) use params_with_filter;

/// Checks a filter, and adds the parameters that are parsed.
pub(super) fn checked(
    filter: EventFilter,
    from: Option<&str>,
    to: Option<&str>,
    context: Option<&str>,
) -> Result<EventFilter, Error> {
    if let Some(score) = filter.min_score.filter(|score| !(0.0..=1.0).contains(score)) {
        return Err(bad(format!("min_score: {score} is not between 0 and 1")));
    }
    let context = context.map(|word| word.parse().map_err(|why| bad(format!("context: {why}"))));
    Ok(EventFilter {
        from_ns: from.map(|text| time::parse("from", text)).transpose()?,
        to_ns: to.map(|text| time::parse("to", text)).transpose()?,
        counts_as: context.transpose()?,
        ..filter
    })
}

/// The event with this number, or `not_found`.
pub(super) async fn find(app: &App, id: i64) -> Result<Event, Error> {
    app.store.event(id).await?.ok_or_else(|| no_event(id))
}

/// The error for an event that does not exist.
pub(super) fn no_event(id: i64) -> Error {
    Error::new(Code::NotFound, format!("event {id} does not exist"))
}

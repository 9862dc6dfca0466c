//! `hub delete`: what `/api/v1/deletions` does, for a person on the machine itself.

use hub_base::error::{Code, Error};
use hub_people::People;
use hub_store::Store;
use hub_store::deletions::{DeletionCounts, DeletionScope};

use crate::protocol::DeletionLine;

/// Cats that an error names at most. Further ones are not named.
const NAMED_CATS: u32 = 20;

/// Counts what a deletion would delete, or begins it and notes it in the audit log.
///
/// # Errors
/// [`Code::NotFound`] if nothing is stored about the cat, [`Code::Conflict`] if too many deletions wait, and as of the
/// store.
pub(crate) async fn run(
    scope: DeletionScope,
    dry_run: bool,
    store: &Store,
    people: &People,
) -> Result<DeletionLine, Error> {
    if let Some(cat) = &scope.cat
        && !store.knows_cat(cat.clone()).await?
    {
        let known = match store.stored_cats(NAMED_CATS).await?.as_slice() {
            [] => "it has nothing about any cat".to_owned(),
            cats => format!("it knows {}", cats.join(", ")),
        };
        let message = format!("the database has nothing about a cat with the name {cat:?}; {known}");
        return Err(Error::new(Code::NotFound, message));
    }
    let what = scope.to_string();
    let (id, counts) = if dry_run {
        (None, store.preview_deletion(scope).await?)
    } else {
        let begun = store.begin_deletion(scope).await?;
        people.record(crate::people::WHO, None, "delete_everything", &what).await;
        (Some(begun.id), begun.counts)
    };
    let DeletionCounts { events, clips, labels, notifications, analyses, .. } = counts;
    Ok(DeletionLine { id, what, events, clips, labels, notifications, analyses })
}

#[cfg(test)]
mod tests {
    use hub_store::Access;
    use hub_store::events::{NewEvent, NoClip};
    use hub_store::testing::{event, put_with};

    use super::*;

    #[tokio::test]
    async fn deletion_is_counted_begun_and_noted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let people = People::new(store.clone());
        let of = |cat: &str| DeletionScope { cat: Some(cat.into()), before_ns: None };
        let nobody = run(of("Tom"), true, &store, &people).await.unwrap_err();
        assert!(nobody.message.ends_with("it has nothing about any cat"), "{nobody:?}");
        for (at, cat) in [(0, "Tom"), (16_000, "Lily"), (32_000, "Tom")] {
            let heard = NewEvent { cat: cat.into(), ..event("http://kitchen:1", at) };
            put_with(&store, heard, Err(NoClip::Disabled)).await;
        }
        // Neither a typing error nor a preview leaves a request behind.
        for dry_run in [true, false] {
            let error = run(of("tom"), dry_run, &store, &people).await.unwrap_err();
            assert_eq!(error.code, Code::NotFound);
            assert!(error.message.contains("\"tom\"; it knows Lily, Tom"), "{error:?}");
        }
        let counted = run(of("Tom"), true, &store, &people).await.unwrap();
        let zero = DeletionLine {
            id: None,
            what: "Tom".into(),
            events: 0,
            clips: 0,
            labels: 0,
            notifications: 0,
            analyses: 0,
        };
        assert_eq!(counted, DeletionLine { events: 2, ..zero.clone() });
        assert!(store.deletions().await.unwrap().is_empty() && people.audit(None, 9).await.unwrap().is_empty());

        let begun = run(of("Tom"), false, &store, &people).await.unwrap();
        assert_eq!(begun, DeletionLine { id: Some(1), ..zero });
        let wanted = store.deletions().await.unwrap();
        assert_eq!(wanted.iter().map(|one| one.scope.clone()).collect::<Vec<_>>(), [of("Tom")]);
        let entry = people.audit(None, 9).await.unwrap().remove(0);
        assert_eq!(
            (entry.who.as_str(), entry.action.as_str(), entry.subject.as_str()),
            ("command", "delete_everything", "Tom")
        );
    }
}

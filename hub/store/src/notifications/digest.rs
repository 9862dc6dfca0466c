//! Digests: one notification that sums up suppressed ones.

use rusqlite::params;

use super::put::put_notifications;
use super::tally::Tally;
use super::types::NotificationPlan;
use crate::database::Store;
use crate::error::StoreError;
use crate::waker::PutIn;

impl Store {
    /// Whether suppressed notifications wait for a digest that is due.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn digest_is_due(&self, now_ns: i64) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM notices WHERE digest_due_ns <= ?1)";
        self.read(move |db| Ok(db.prepare_cached(sql)?.query_row([now_ns], |row| row.get(0))?)).await
    }

    /// Stores a digest, for each owner, of all notifications that wait for one that is due, and wakes those who
    /// deliver. Notifications of an owner without a plan are left out of all digests from now on.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing has changed.
    pub async fn make_digests(&self, plans: Vec<NotificationPlan>, now_ns: i64) -> Result<PutIn, StoreError> {
        let put_in = self.write(move |db| {
            let mut put_in = PutIn::default();
            for plan in &plans {
                let sql =
                    "SELECT subject, created_at_ns FROM notices WHERE digest_due_ns <= ?1 AND owner = ?2 ORDER BY id";
                let mut statement = db.prepare_cached(sql)?;
                let mut rows = statement.query(params![now_ns, plan.owner])?;
                let mut tally = Tally::default();
                while let Some(row) = rows.next()? {
                    tally.add(&row.get::<_, String>(0)?, row.get(1)?);
                }
                if let Some(digest) = tally.digest(false) {
                    put_in += put_notifications(db, &digest, std::slice::from_ref(plan), now_ns)?;
                }
            }
            db.execute("UPDATE notices SET digest_due_ns = NULL WHERE digest_due_ns <= ?1", [now_ns])?;
            Ok(put_in)
        });
        let put_in = put_in.await?;
        self.waker().committed(put_in);
        Ok(put_in)
    }
}

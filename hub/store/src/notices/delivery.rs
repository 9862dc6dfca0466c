//! The way out of the outbox: what is due, what became of it, digests, and what is forgotten.

use super::*;

impl Store {
    /// Notices of a channel that are due, those that have waited longest first, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn due_notices(
        &self,
        owner: &str,
        channel: &str,
        now_ns: i64,
        limit: usize,
    ) -> Result<Vec<Notice>, StoreError> {
        let (owner, channel) = (owner.to_owned(), channel.to_owned());
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM notices WHERE state = 'pending' AND owner = ?1 AND channel = ?2 \
                 AND due_at_ns <= ?3 ORDER BY due_at_ns, id LIMIT {limit}"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map(params![owner, channel, now_ns], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The channel took a notice.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notice_delivered(&self, id: i64, now_ns: i64) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "UPDATE notices SET state = 'delivered', ended_at_ns = ?2, error = NULL \
                       WHERE id = ?1 AND state = 'pending'";
            db.prepare_cached(sql)?.execute(params![id, now_ns])?;
            Ok(())
        })
        .await
    }

    /// A try failed: the notice is due again at `due_at_ns`, or dead when there is no such time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notice_failed(
        &self,
        id: i64,
        error: String,
        due_at_ns: Option<i64>,
        now_ns: i64,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "UPDATE notices SET tries = tries + 1, error = ?2, due_at_ns = coalesce(?3, due_at_ns), \
                       state = iif(?3 IS NULL, 'dead', state), ended_at_ns = iif(?3 IS NULL, ?4, NULL) \
                       WHERE id = ?1 AND state = 'pending'";
            db.prepare_cached(sql)?.execute(params![id, error, due_at_ns, now_ns])?;
            Ok(())
        })
        .await
    }

    /// Gives up what waits for channels that are not among `known` (owner and channel): nobody will ever deliver it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn bury_unknown(&self, known: Vec<(String, String)>, now_ns: i64) -> Result<usize, StoreError> {
        self.write(move |db| {
            let mut statement = db.prepare("SELECT DISTINCT owner, channel FROM notices WHERE state = 'pending'")?;
            let waiting = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let waiting = waiting.collect::<Result<Vec<(String, String)>, _>>()?;
            let sql = "UPDATE notices SET state = 'dead', ended_at_ns = ?3, error = 'the channel is not configured any more' \
                       WHERE state = 'pending' AND owner = ?1 AND channel = ?2";
            let mut buried = 0;
            for (owner, channel) in waiting.iter().filter(|pair| !known.contains(pair)) {
                buried += db.execute(sql, params![owner, channel, now_ns])?;
            }
            Ok(buried)
        })
        .await
    }

    /// Whether something is gathered for a digest that is due.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn digest_is_due(&self, now_ns: i64) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM notices WHERE digest_due_ns <= ?1)";
        self.read(move |db| Ok(db.prepare_cached(sql)?.query_row([now_ns], |row| row.get(0))?)).await
    }

    /// Makes a digest for each owner of all that was gathered for one that is due, and puts it into the outbox. What was
    /// gathered for an owner who is not among `plans` is in none any more.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing has changed.
    pub async fn make_digests(&self, plans: Vec<NoticePlan>, now_ns: i64) -> Result<PutIn, StoreError> {
        self.write(move |db| {
            let mut put = PutIn::default();
            for plan in &plans {
                let sql =
                    "SELECT subject, created_at_ns FROM notices WHERE digest_due_ns <= ?1 AND owner = ?2 ORDER BY id";
                let mut statement = db.prepare_cached(sql)?;
                let rows = statement.query_map(params![now_ns, plan.owner], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })?;
                if let Some(digest) = digest_of(rows.collect::<Result<Vec<_>, _>>()?) {
                    put += put_notices(db, &digest, std::slice::from_ref(plan), now_ns)?;
                }
            }
            db.execute("UPDATE notices SET digest_due_ns = NULL WHERE digest_due_ns <= ?1", [now_ns])?;
            Ok(put)
        })
        .await
    }

    /// Forgets notices that ended before `before_ns`, at most `limit`; not those that wait for their digest. Returns how
    /// many went.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_notices(&self, before_ns: i64, limit: usize) -> Result<usize, StoreError> {
        self.write(move |db| {
            let sql = format!(
                "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE state <> 'pending' AND created_at_ns < ?1 \
                 AND digest_due_ns IS NULL LIMIT {limit})"
            );
            Ok(db.execute(&sql, [before_ns])?)
        })
        .await
    }

    /// Notices in a state, or all, the latest first, at most `limit`, with numbers below `before_id`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notices(
        &self,
        state: Option<NoticeState>,
        before_id: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Notice>, StoreError> {
        self.read(move |db| {
            let state = state.map(NoticeState::as_str);
            let sql = format!(
                "SELECT {COLUMNS} FROM notices WHERE {} AND id < ?2 ORDER BY id DESC LIMIT {limit}",
                if state.is_some() { "state = ?1" } else { "?1 IS NULL" }
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map(params![state, before_id.unwrap_or(i64::MAX)], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Queues a dead notice anew: its tries and its age count from now. Returns the notice as it is afterwards, and whether
    /// it was dead; `None` when there is no such notice.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retry_notice(&self, id: i64, now_ns: i64) -> Result<Option<(Notice, bool)>, StoreError> {
        self.write(move |db| {
            let sql = "UPDATE notices SET state = 'pending', tries = 0, queued_at_ns = ?2, due_at_ns = ?2, ended_at_ns = NULL \
                       WHERE id = ?1 AND state = 'dead'";
            let was_dead = db.execute(sql, params![id, now_ns])? > 0;
            let sql = format!("SELECT {COLUMNS} FROM notices WHERE id = ?1");
            let notice = db.query_row(&sql, [id], from_row).optional()?;
            Ok(notice.map(|notice| (notice, was_dead)))
        })
        .await
    }

    /// How many notices are pending, by kind of channel. Kinds without any are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pending_notices(&self) -> Result<Vec<(ChannelKind, u64)>, StoreError> {
        self.read(|db| {
            let sql = "SELECT channel_kind, count(*) FROM notices WHERE state = 'pending' GROUP BY channel_kind";
            let mut statement = db.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok((word(row, 0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// Counts what was gathered: subjects as JSON, with the times when they were. `None`: nothing.
fn digest_of(gathered: Vec<(String, i64)>) -> Option<Subject> {
    let (from_ns, to_ns) = (gathered.first()?.1, gathered.last()?.1);
    let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (json, _) in gathered {
        // What cannot be read was written by a later version, and that is counted too.
        let (animal, what) = match serde_json::from_str(&json) {
            Ok(Subject::Call { animal, .. }) => (animal, "call".to_owned()),
            Ok(Subject::Event { cat, context, .. }) => (cat, context),
            Ok(Subject::Node { cat, condition, .. }) => (cat, format!("node_{condition}")),
            Ok(Subject::Digest { .. }) | Err(_) => (String::new(), "other".to_owned()),
        };
        *counts.entry(animal).or_default().entry(what).or_default() += 1;
    }
    Some(Subject::Digest { from_ns, to_ns, counts })
}

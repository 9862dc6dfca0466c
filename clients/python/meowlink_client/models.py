"""Answers of the hub. Generated from its OpenAPI document by clients/python/generate: do not edit."""

from __future__ import annotations

from typing import NotRequired, TypeAlias
from typing_extensions import TypedDict


class Alive(TypedDict):
    """
    The process is alive.
    """

    status: str
    """
    Always `ok`.
    """


class AnalyzeAnswer(TypedDict):
    """
    Confirms that the analysis has started.
    """

    result: str
    """
    `Analyzing NAME ...`
    """


class AuditLine(TypedDict):
    """
    An entry of the audit log.
    """

    action: str
    """
    What was done: a word such as `log_in`, `label`, `delete_event` or `live_listening`.
    """
    address: str
    """
    IP address. Empty for a command.
    """
    at: str
    """
    When, RFC 3339 in UTC.
    """
    subject: str
    """
    What it was done to.
    """
    who: str
    """
    A user, `token NAME`, `command`, `this machine`, `anyone`, or `an unknown name` for a failed log-in.
    """


class AuditStored(TypedDict):
    """
    The audit log.
    """

    keep_count: int
    """
    Most entries. The oldest are deleted.
    """
    keep_days: int
    """
    After how many days an entry is deleted.
    """


class BackupsStored(TypedDict):
    """
    Backups.
    """

    keep_count: int
    """
    Backups that the folder keeps.
    """
    to: NotRequired[str | None]
    """
    The folder for a backup every night. Null: there is none.
    """


Binary: TypeAlias = bytes
"""
Bytes of a file: sound, a picture or an archive.
"""


class CatAnswer(TypedDict):
    """
    The cat's answer.
    """

    catMeaw: str
    """
    `NAME: MEEEWWWWW`
    """


class CatBody(TypedDict, closed=True):
    """
    Which cat an event was.
    """

    cat: str
    """
    Name of the cat: 1 to 1024 bytes in one line.
    """


class CheckAnswer(TypedDict):
    """
    A check of the whole database.
    """

    at: str
    """
    When, RFC 3339 in UTC.
    """
    fault: NotRequired[str | None]
    """
    What is damaged. Null: nothing.
    """
    ok: bool
    """
    Whether the database is intact.
    """


class ClipAnswer(TypedDict):
    """
    The recording of an event.
    """

    bytes: int
    """
    Size of the WAV file, in bytes.
    """
    duration_s: float
    """
    Length in seconds.
    """
    event_start_s: float
    """
    Where the event begins, in seconds from the start of the clip. Negative: before the clip.
    """
    spectrogram_url: str
    """
    Path of the spectrogram.
    """
    url: str
    """
    Path of the WAV file.
    """


class ClipCountsAnswer(TypedDict):
    """
    Counts of clips since the hub's start.
    """

    disk_full: int
    """
    Clips not written because the disk was too full.
    """
    expired: int
    """
    Clips removed by retention.
    """
    kept: int
    """
    Clips on disk now.
    """
    kept_bytes: int
    """
    Total size of the clips on disk, in bytes.
    """
    speech: int
    """
    Clips not written because they were mostly human speech.
    """
    write_failed: int
    """
    Clips not written because of an I/O error.
    """
    written: int
    """
    Clips written.
    """


class ClipsStored(TypedDict):
    """
    Recordings of events.
    """

    after_s: float
    """
    Seconds of sound after an event that are recorded, at most.
    """
    before_s: float
    """
    Seconds of sound before an event that are recorded, at most.
    """
    bytes: int
    """
    Bytes of all recordings now.
    """
    count: int
    """
    Number of recordings now.
    """
    enabled: bool
    """
    Whether the hub writes recordings at all.
    """
    keep_bytes: int
    """
    Most bytes of recordings without a label. The oldest are deleted.
    """
    keep_count: int
    """
    Most recordings without a label. The oldest are deleted.
    """
    keep_days: NotRequired[int | None]
    """
    After how many days a recording without a label is deleted. Null: when there are too many.
    """
    labelled_keep_bytes: int
    """
    Most bytes of recordings with a label.
    """
    labelled_keep_count: int
    """
    Most recordings with a label. No age limits them.
    """
    longest_s: int
    """
    Longest recording without these, in seconds.
    """
    speech_cut_off: bool
    """
    Whether speech before and after an event is cut off, and recordings that are mostly speech are not written.
    """


class ContextCounts(TypedDict):
    """
    Number of events by what they count as: the label, or the context if there is no label.
    """

    brushing: int
    """
    Being brushed at home.
    """
    isolation: int
    """
    Alone in an unfamiliar place.
    """
    uncertain: int
    """
    No context is likely enough.
    """
    waiting_for_food: int
    """
    Waiting for food.
    """


class Counters(TypedDict):
    """
    Counts since the node's start. A frame is 20 ms long.
    """

    clipped_samples: int
    """
    Samples at full scale.
    """
    frames_captured: int
    """
    Frames captured.
    """
    frames_lost_device: int
    """
    Frames lost because the device was missing.
    """
    frames_lost_overrun: int
    """
    Frames lost to overruns.
    """
    frames_lost_to_subscribers: int
    """
    Frames dropped because subscribers were too slow.
    """
    overruns: int
    """
    Overruns.
    """
    owner_failures: int
    """
    Calls to the owner that failed.
    """
    source_restarts: int
    """
    How often the source was reopened.
    """
    subscribers: int
    """
    Current number of subscribers.
    """


class DeletedCounts(TypedDict):
    """
    How much is deleted.
    """

    analyses: int
    """
    Analyses.
    """
    clips: int
    """
    Their recordings.
    """
    copies: int
    """
    Recordings in the quarantine, and events in snapshots. A preview does not count them.
    """
    events: int
    """
    Events.
    """
    labels: int
    """
    Their labels.
    """
    notifications: int
    """
    Notifications.
    """


class DeletionAnswer(TypedDict):
    """
    A deletion, and how far it is.
    """

    before: NotRequired[str | None]
    """
    What began before this time is deleted, RFC 3339 in UTC. Null: whatever the time.
    """
    cat: NotRequired[str | None]
    """
    Name of the cat. Null: every cat; or the deletion is done, and the name is forgotten.
    """
    deleted: DeletedCounts
    """
    How much has been deleted so far; for a preview, how much would be.
    """
    ended_at: NotRequired[str | None]
    """
    When it was done, RFC 3339 in UTC. Null: it is not.
    """
    id: NotRequired[int | None]
    """
    Number of the deletion. Null: it is a preview.
    """
    not_deleted: str
    """
    What the hub does not delete, for people.
    """
    of_cat: bool
    """
    Whether it is about one cat.
    """
    requested_at: NotRequired[str | None]
    """
    When it was asked for, RFC 3339 in UTC. What came later stays. Null: it is a preview.
    """
    state: str
    """
    `preview`: nothing is deleted. `running`, or `done`.
    """


class DeletionBody(TypedDict, closed=True):
    """
    What to delete. At least one of `cat` and `before` is needed. With both, the events of the cat that began before the
    time are deleted.
    """

    before: NotRequired[str | None]
    """
    Delete what began before this time, RFC 3339.
    """
    cat: NotRequired[str | None]
    """
    Name of the cat.
    """
    dry_run: NotRequired[bool]
    """
    Only count what would be deleted.
    """


class DogAnswer(TypedDict):
    """
    The dog's answer.
    """

    dogBark: str
    """
    `NAME is going to bark!`
    """


class EventsStored(TypedDict):
    """
    Events.
    """

    deleted_keep_days: int
    """
    How many days the place of a deleted event in the sound of its node is remembered, so that the event does not
    come back.
    """
    keep_count: int
    """
    Most events. The oldest are deleted.
    """
    keep_days: NotRequired[int | None]
    """
    After how many days an event without a label is deleted. Null: when there are too many.
    """
    labelled_keep_count: int
    """
    Most events with a label. No age limits them.
    """


class FailureAnswer(TypedDict):
    """
    A backup that failed.
    """

    at: str
    """
    When, RFC 3339 in UTC.
    """
    message: str
    """
    Why, and what to do.
    """


class LabelBody(TypedDict, closed=True):
    """
    The owner's label of an event.
    """

    label: NotRequired[str | None]
    """
    `waiting_for_food`, `isolation`, `brushing`, `not_a_cat`, or the name of a label of your own. Null removes the
    label.
    """


class LastBackupAnswer(TypedDict):
    """
    A good backup.
    """

    age_s: int
    """
    Seconds since then.
    """
    bytes: int
    """
    Bytes of its files.
    """
    events: int
    """
    Events that it holds.
    """
    made_at: str
    """
    When it was made, RFC 3339 in UTC.
    """
    other_device: bool
    """
    Whether it is on another device than the data.
    """
    to: str
    """
    The folder or the archive.
    """


class Level(TypedDict):
    """
    A level in dB of full scale. -120 is digital silence.
    """

    peak_dbfs: float
    """
    Highest absolute sample.
    """
    rms_dbfs: float
    """
    Root mean square.
    """


class LevelAnswer(TypedDict):
    """
    Level of audio.
    """

    clipped_fraction: float
    """
    Fraction of the samples at full scale, 0 to 1.
    """
    peak_dbfs: float
    """
    Highest absolute sample, in dB of full scale, -120 to 0.
    """
    rms_dbfs: float
    """
    Root mean square, in dB of full scale, -120 to 0.
    """
    zero_fraction: float
    """
    Fraction of the samples that are exactly zero, 0 to 1.
    """


class LiveAudio(TypedDict):
    """
    Live audio.
    """

    enabled: bool
    """
    Whether the page and the API play live audio.
    """
    listening_now: int
    """
    How many hear it now. `/api/v1/listening` names them.
    """
    who: NotRequired[str | None]
    """
    Who may hear it: `listener`, those with this role or a higher one; or `everyone` who reaches the hub, because it
    has no users. Null: nobody.
    """


class LiveLevelAnswer(TypedDict):
    """
    Current level of a node.
    """

    lag_ms: int
    """
    Age of the audio when it was analysed, in milliseconds.
    """
    node: str
    """
    URL of the node.
    """
    peak_dbfs: float
    """
    Highest absolute sample, in dB of full scale, -120 to 0.
    """
    rms_dbfs: float
    """
    Root mean square, in dB of full scale, -120 to 0.
    """
    score: float
    """
    How likely the audio contains a cat, 0 to 1.
    """


class LiveListener(TypedDict):
    """
    Somebody who hears live audio.
    """

    node: str
    """
    URL of the node.
    """
    since: str
    """
    Since when, RFC 3339 in UTC.
    """
    who: str
    """
    A user, `token NAME`, `this machine` or `anyone`.
    """


class LogIn(TypedDict, closed=True):
    """
    Name and password.
    """

    name: str
    """
    Name of the user.
    """
    password: str
    """
    The password.
    """


class MeasurementsAnswer(TypedDict):
    """
    Acoustic measurements of a vocalisation.
    """

    peak_dbfs: float
    """
    Highest absolute sample, in dB of full scale, -120 to 0.
    """
    pitch_max_hz: float
    """
    Highest pitch, in hertz.
    """
    pitch_median_hz: float
    """
    Median pitch, in hertz. 0: no pitch was found.
    """
    pitch_min_hz: float
    """
    Lowest pitch, in hertz.
    """
    rms_dbfs: float
    """
    Root mean square, in dB of full scale, -120 to 0.
    """
    snr_db: float
    """
    Level above the background before it, in dB.
    """
    spectral_centroid_hz: float
    """
    Centre of gravity of the spectrum, in hertz.
    """
    spectral_flatness: float
    """
    0 for a pure tone, 1 for white noise.
    """
    voiced_fraction: float
    """
    Fraction of the vocalisation that has a pitch, 0 to 1.
    """


class NamedCatAnswer(TypedDict):
    """
    A cat that owners named for events.
    """

    events: int
    """
    For how many events owners named it.
    """
    name: str
    """
    Its name.
    """


class NewTokenAnswer(TypedDict):
    """
    A new token.
    """

    token: str
    """
    Its text. The hub does not keep it.
    """


class NodeError(TypedDict):
    """
    Why a node did not answer.
    """

    code: str
    """
    For programs: a stable word to branch on.
    """
    message: str
    """
    For people: what happened.
    """


class NodeListening(TypedDict):
    """
    State of listening to a node. Counts are since the hub's start. A frame is 20 ms long.
    """

    boot_id: NotRequired[str | None]
    """
    Boot id of the node, 16 hexadecimal digits. Null: no audio yet.
    """
    disconnects: int
    """
    Established connections that ended. Failed attempts to connect do not count.
    """
    duplicate_frames: int
    """
    Frames that arrived more than once. The hub ignores the copies.
    """
    error: NotRequired[str | None]
    """
    Why the node is away. Null: it is not away.
    """
    events: int
    """
    Events stored.
    """
    frames: int
    """
    Frames analysed.
    """
    gaps: int
    """
    Number of gaps.
    """
    heard_at: NotRequired[str | None]
    """
    When audio was last analysed, RFC 3339 in UTC. Null: never.
    """
    lag_ms: int
    """
    Age of the latest audio when it was analysed, in milliseconds.
    """
    level: NotRequired[LiveLevelAnswer | None]
    lost_frames: dict[str, int]
    """
    Lost frames by reason.
    """
    node: str
    """
    URL of the node.
    """
    state: str
    """
    `connecting`, `catching_up`, `live`, `quiet` (connected, but no audio arrives) or `away`.
    """


class NoticeAnswer(TypedDict):
    """
    A notification: pending, delivered, given up or suppressed.
    """

    animal: NotRequired[str | None]
    """
    Name of the animal. Null: the notification is a digest, or the cat has no name.
    """
    channel: NotRequired[str | None]
    """
    Name of the owner's channel. Null: the notification is suppressed.
    """
    channel_kind: NotRequired[str | None]
    """
    Kind of the channel: `log`, `webhook`, `ntfy` or `mqtt`. Null: the notification is suppressed.
    """
    counts: NotRequired[dict[str, dict[str, int]]]
    """
    For a digest: counts by animal, then by context, `call`, or `node_<condition>`. Null for anything else.
    """
    created_at: str
    """
    When it was created, RFC 3339 in UTC.
    """
    ended_at: NotRequired[str | None]
    """
    When it was delivered, given up or suppressed, RFC 3339 in UTC. Null: it is pending.
    """
    error: NotRequired[str | None]
    """
    Why the last attempt failed. Null: no attempt failed.
    """
    event_id: NotRequired[int | None]
    """
    Number of the event. Null: the notification is not about an event.
    """
    further: NotRequired[int | None]
    """
    For a digest: how many notifications it counts about animals that are not in `counts`. Null for anything else.
    """
    id: int
    """
    Number of the notification.
    """
    key: str
    """
    Identical in all attempts. A webhook receives it as `Idempotency-Key`.
    """
    kind: str
    """
    What it is about: `call`, `event`, `node` (a node went deaf or away, or recovered) or `digest`.
    """
    owner: str
    """
    Name of the owner.
    """
    reason: NotRequired[str | None]
    """
    Why it was suppressed: `cooldown`, `quiet_hours`, `digest_only`, `backlog` (a digest took its place, because the
    channel was down), `event_deleted`, `not_a_cat` (a person deleted its event, or labelled it so, before it was
    delivered), `like_not_a_cat` (its event sounds like ones labelled so), or `below_min_score` (its event scored
    below the `min_score` of the node). Null: it was not.
    """
    status: str
    """
    `pending`, `delivered`, `dead` (delivery was given up) or `suppressed` (not sent).
    """
    tries: int
    """
    Number of failed attempts.
    """


class NoticesAnswer(TypedDict):
    """
    A page of notifications.
    """

    next_cursor: NotRequired[str | None]
    """
    Send it as `cursor` to get the next page. Null: this is the last page.
    """
    notices: list[NoticeAnswer]
    """
    Latest first.
    """


class NotificationsStored(TypedDict):
    """
    Notifications.
    """

    keep_count: int
    """
    Most notifications. The oldest are deleted.
    """
    keep_days: int
    """
    After how many days a notification is deleted.
    """


class OwnLabelAnswer(TypedDict):
    """
    A label of the owner's own.
    """

    events: int
    """
    How many events have it.
    """
    id: int
    """
    Number of the label. Renaming keeps it.
    """
    name: str
    """
    Its name.
    """
    suggested: int
    """
    For how many events without a label the hub suggests it.
    """


class OwnLabelBody(TypedDict, closed=True):
    """
    The name of a label.
    """

    name: str
    """
    1 to 40 characters in one line. Upper and lower case are the same.
    """


class OwnLabelsAnswer(TypedDict):
    """
    The labels of the owner's own.
    """

    own_labels: list[OwnLabelAnswer]
    """
    By name, at most 32.
    """


class PairedAnswer(TypedDict):
    """
    A node that was paired.
    """

    url: str
    """
    URL of the node.
    """


class PairingCode(TypedDict):
    """
    A pairing code that a person has typed.
    """

    code: str
    """
    The code that `cat-node pair` shows on the node.
    """
    host: NotRequired[str | None]
    """
    Host name or address of the node, with `:PORT` if that is not 50056. Null or absent: the waiting nodes that show
    a code are tried, at most 4; a wrong code then uses one of the five tries at each.
    """


class PreviewAnswer(TypedDict):
    """
    What another `min_score` of a node would have changed. Events that sounded like ones labelled `not_a_cat` are not
    counted here, because no `min_score` would have announced them. What another node heard too is counted.
    """

    cats_missed: int
    """
    Of the announced events with a lower score, those that the owner labelled as a cat.
    """
    days: int
    """
    How many days until now were counted.
    """
    events: int
    """
    Number of events with the score that was asked for, or a higher one.
    """
    events_at_present: int
    """
    Number of events that were announced.
    """
    false_alarms_spared: int
    """
    Of the announced events with a lower score, those that the owner labelled `not_a_cat`.
    """
    min_score: float
    """
    The `min_score` that was asked for.
    """
    min_score_at_present: NotRequired[float | None]
    """
    `min_score` of the node in the hub's config. Null: it has none.
    """
    node: str
    """
    URL of the node.
    """


class ProbabilitiesAnswer(TypedDict):
    """
    Probabilities of the contexts, each 0 to 1. Their sum is 1.
    """

    brushing: float
    """
    Being brushed at home.
    """
    isolation: float
    """
    Alone in an unfamiliar place.
    """
    waiting_for_food: float
    """
    Waiting for food.
    """


class ProblemDetail(TypedDict):
    """
    An error, for programs and for people.
    """

    code: str
    """
    For programs: a stable word to branch on.
    """
    message: str
    """
    For people: what happened, and what to do.
    """


class QuarantineStored(TypedDict):
    """
    Recordings without an event.
    """

    keep_bytes: int
    """
    Most bytes. The oldest are deleted.
    """
    keep_days: int
    """
    After how many days with the hub running a recording is deleted.
    """


class Ready(TypedDict):
    """
    Whether the hub can work.
    """

    checks: dict[str, CheckAnswer]
    """
    The checks by name: `store`, the roles, `node:URL` for each node, and `database` if its daily check found
    damage.
    """
    ready: bool
    """
    Whether everything that is required works.
    """
    status: str
    """
    `ok`: everything works. `degraded`: the hub works, but something does not, such as a deaf node. `failed`:
    something required does not work.
    """


class RemovedOwnLabelAnswer(TypedDict):
    """
    What the removal of a label did to events without a label, including those that had this one.
    """

    changed: int
    """
    How many of them have another context or another suggested label now, because the events of the removed label no
    longer teach.
    """
    undo: list[str]
    """
    Paths to which a POST puts these events back, one for each cat. Empty: no event changed.
    """


class SessionAnswer(TypedDict):
    """
    Who the client is.
    """

    has_users: bool
    """
    Whether there are users.
    """
    needs_log_in: bool
    """
    Whether the client must log in, or send a token, before it sees data.
    """
    role: NotRequired[str | None]
    """
    `viewer`, `listener`, `owner` or `admin`. Null: the client has not logged in.
    """
    user: NotRequired[str | None]
    """
    The user, or `token NAME`. Null: the client has not logged in.
    """


class SessionEntry(TypedDict):
    """
    A browser that is logged in.
    """

    address: str
    """
    IP address that logged in.
    """
    agent: str
    """
    The browser, by its own word.
    """
    created_at: str
    """
    When the user logged in, RFC 3339 in UTC.
    """
    id: int
    """
    Number of the session.
    """
    this: bool
    """
    Whether this request belongs to the session.
    """
    used_at: str
    """
    Last use, RFC 3339 in UTC, to ten minutes.
    """
    user: str
    """
    Name of the user.
    """


class SessionsAnswer(TypedDict):
    """
    The sessions.
    """

    sessions: list[SessionEntry]
    """
    The last used first, at most 20 of each user.
    """


class SetUp(TypedDict, closed=True):
    """
    The first user.
    """

    name: str
    """
    Name of the user.
    """
    password: str
    """
    The password, 8 characters to 256 bytes.
    """
    secret: str
    """
    The secret of the set-up link.
    """


class SnapshotsAnswer(TypedDict):
    """
    Snapshots of the database.
    """

    count: int
    """
    Number of snapshots.
    """
    last_at: NotRequired[str | None]
    """
    When the last one was made, RFC 3339 in UTC. Null: there is none.
    """


class SnapshotsStored(TypedDict):
    """
    Copies of the database.
    """

    keep_count: int
    """
    Most snapshots. One is made each day.
    """


class Source(TypedDict):
    """
    The audio source of a node.
    """

    channels: int
    """
    Channels before down-mixing. 0: the source is not open.
    """
    detail: str
    """
    For people: why the source is in this state.
    """
    device: str
    """
    Stable id of the device, or path of the WAV file.
    """
    kind: str
    """
    `synthetic`, `wav` or `microphone`.
    """
    last_frame_age_ms: NotRequired[int | None]
    """
    Time since the last frame, in milliseconds. Null: there was none since the node's start.
    """
    sample_rate_hz: int
    """
    Sample rate before resampling, in hertz. 0: the source is not open.
    """
    state: str
    """
    `starting`, `capturing`, `silent` (only zeros), `no_device`, `ended` or `unknown`.
    """


class Tape(TypedDict):
    """
    The tape of a node. A frame is 20 ms long.
    """

    bytes: int
    """
    Size of the audio on the tape, in bytes.
    """
    capacity_frames: int
    """
    Most frames that the tape holds.
    """
    next_sequence: int
    """
    Sequence number of the next frame.
    """
    oldest_sequence: int
    """
    Sequence number of the oldest frame still on the tape.
    """


class TokenAnswer(TypedDict):
    """
    A token.
    """

    created_at: str
    """
    When it was made, RFC 3339 in UTC.
    """
    expires_at: NotRequired[str | None]
    """
    When it expires, RFC 3339 in UTC. Null: never.
    """
    name: str
    """
    Name of the token.
    """
    role: str
    """
    `viewer`, `listener`, `owner` or `admin`.
    """
    used_at: NotRequired[str | None]
    """
    Last use, RFC 3339 in UTC, to ten minutes. Null: never used.
    """


class TokenToAdd(TypedDict, closed=True):
    """
    A token to make.
    """

    days: NotRequired[int | None]
    """
    After how many days it expires. Null: never.
    """
    name: str
    """
    Name of the token: letters, digits and `-_.@`, at most 64 bytes.
    """
    role: str
    """
    `viewer`, `listener`, `owner` or `admin`.
    """


class TokensAnswer(TypedDict):
    """
    The tokens.
    """

    tokens: list[TokenAnswer]
    """
    By name, at most 128, those that have expired too.
    """


class UndoneAnswer(TypedDict):
    """
    A re-evaluation that was undone.
    """

    changed: int
    """
    How many events are as they were before it. Events that were deleted since are not counted.
    """


class UserAnswer(TypedDict):
    """
    A user.
    """

    created_at: str
    """
    When the user was added, RFC 3339 in UTC.
    """
    name: str
    """
    Name to log in with.
    """
    role: str
    """
    `viewer`, `listener`, `owner` or `admin`.
    """
    used_at: NotRequired[str | None]
    """
    Last use of a session, RFC 3339 in UTC, to ten minutes. Null: no session.
    """


class UserChange(TypedDict, closed=True):
    """
    Changes to a user. What is left out stays.
    """

    password: NotRequired[str | None]
    """
    The password, 8 characters to 256 bytes. A new one ends all sessions of the user.
    """
    role: NotRequired[str | None]
    """
    `viewer`, `listener`, `owner` or `admin`.
    """


class UserToAdd(TypedDict, closed=True):
    """
    A user to add.
    """

    name: str
    """
    Name to log in with: letters, digits and `-_.@`, at most 64 bytes.
    """
    password: str
    """
    The password, 8 characters to 256 bytes.
    """
    role: str
    """
    `viewer`, `listener`, `owner` or `admin`.
    """


class UsersAnswer(TypedDict):
    """
    The users.
    """

    users: list[UserAnswer]
    """
    By name, at most 64.
    """


class WaitingAnswer(TypedDict):
    """
    A discovered node that waits to be admitted.
    """

    addresses: list[str]
    """
    IP addresses and ports where the node answered.
    """
    cat: NotRequired[str | None]
    """
    The cat of the node, by its own word. Null: it does not say.
    """
    key: str
    """
    Names the node in `/api/v1/nodes/waiting/{key}/admit`, where it is percent-encoded: its id, or else its URL.
    """
    needs_code: bool
    """
    Whether the node answers only after it is paired: `POST /api/v1/nodes/pair`. It cannot be admitted.
    """
    node_id: NotRequired[str | None]
    """
    Id that the node has proved, 64 hexadecimal digits. Null: it has proved none.
    """
    since: str
    """
    Since when the node waits, RFC 3339 in UTC.
    """
    url: str
    """
    URL that the node will have.
    """
    version: NotRequired[str | None]
    """
    Version of the node's program. Null: it does not say.
    """


class AnalysisAnswer(TypedDict):
    """
    An analysis: 30 seconds of audio from a cat's node.
    """

    boot_id: NotRequired[str | None]
    """
    Boot id of the node, 16 hexadecimal digits. Null: no audio was received.
    """
    cat: str
    """
    The name of the cat, as requested.
    """
    cat_score: NotRequired[float | None]
    """
    Highest detection score, 0 to 1: how likely the audio contains a cat.
    """
    detection_count: int
    """
    Number of detected vocalisations.
    """
    ended_at: NotRequired[str | None]
    """
    When the analysis ended. Null while it runs.
    """
    finding: NotRequired[str | None]
    """
    What was found: `no_cat`, `uncertain` (a cat whose context is unclear), `waiting_for_food`, `isolation` or
    `brushing`. Null while the analysis runs, or if no audio was received.
    """
    first_sample: NotRequired[int | None]
    """
    Index of the first sample (16 kHz) since the node's start. Null: no audio was received.
    """
    heard_s: float
    """
    Audio received, in seconds.
    """
    id: int
    """
    Number of the analysis.
    """
    level: NotRequired[LevelAnswer | None]
    lost_s: float
    """
    Audio lost in gaps, in seconds.
    """
    messages: int
    """
    Messages received from the node, at most 30.
    """
    node: str
    """
    URL of the node that sent the audio.
    """
    reason: NotRequired[str | None]
    """
    Why the analysis is partial or failed.
    """
    result: NotRequired[str | None]
    """
    The verdict as a sentence.
    """
    started_at: str
    """
    When the analysis began, RFC 3339 in UTC.
    """
    status: str
    """
    `running`, `complete`, `partial` (some audio is missing) or `failed` (there is no audio).
    """
    verdict: NotRequired[str | None]
    """
    How the cat is: `Hungry` (waiting for food), `Good` (content, being brushed), `Bad` (in distress) or `Smelly`
    (no cat was heard, or no context stood out). Null while the analysis runs, or if there is no audio.
    """


class AuditAnswer(TypedDict):
    """
    A page of the audit log.
    """

    entries: list[AuditLine]
    """
    Latest first.
    """
    next_cursor: NotRequired[str | None]
    """
    Send it as `cursor` to get the next page. Null: this is the last page.
    """


class BackupAnswer(TypedDict):
    """
    How the backups of the hub are.
    """

    check: NotRequired[CheckAnswer | None]
    failure: NotRequired[FailureAnswer | None]
    last: NotRequired[LastBackupAnswer | None]
    only_on_data_disk: bool
    """
    Whether no known backup is on another device than the data: if that device fails, everything is lost.
    """
    running: bool
    """
    Whether a backup is under way.
    """
    snapshots: SnapshotsAnswer
    """
    Daily copies of the database in the data folder.
    """
    to: NotRequired[str | None]
    """
    The folder for backups. Null: `[backup] to` is not set.
    """


class BucketAnswer(TypedDict):
    """
    The count of a day or an hour.
    """

    contexts: ContextCounts
    """
    Number of events by what they count as.
    """
    count: int
    """
    Number of events.
    """
    end: str
    """
    End of the day or hour, which is the start of the next one.
    """
    start: str
    """
    Start of the day or hour, RFC 3339 with the offset of the time zone.
    """


class CatsAnswer(TypedDict):
    """
    The cats that owners named for events.
    """

    cats: list[NamedCatAnswer]
    """
    Those of the most events first, at most 100.
    """


class ContextAnswer(TypedDict):
    """
    The context of a vocalisation, as classified.
    """

    label: str
    """
    `waiting_for_food`, `isolation`, `brushing` or `uncertain`.
    """
    labels: int
    """
    Number of labels of this cat that the classification is based on.
    """
    model: str
    """
    Which model classified it: `general`, the model for any cat, or `household`, the model that the owner's labels
    trained for this cat.
    """
    probabilities: ProbabilitiesAnswer
    """
    The probabilities from which the label was chosen.
    """


class CountsAnswer(TypedDict):
    """
    Counts of events. Events labelled `not_a_cat`, those that sound like them, and those below the `min_score` of their
    node are not counted.
    """

    by: str
    """
    `day` or `hour`.
    """
    counts: list[BucketAnswer]
    """
    Days or hours in order, including those without events. A day on which clocks change has 23 or 25 hours. The
    hour that occurs twice on that day has two entries.
    """
    total: int
    """
    Number of all events.
    """
    tz: str
    """
    The time zone.
    """


class Description(TypedDict):
    """
    A node's own description.
    """

    boot_id: str
    """
    A random number that the node draws at its start, 16 hexadecimal digits.
    """
    cat: str
    """
    The cat in the node's config.
    """
    counters: Counters
    """
    Counts since the node's start.
    """
    level: Level
    """
    Level of the last second.
    """
    source: Source
    """
    The audio source.
    """
    tape: Tape
    """
    The tape: the latest audio, kept on the node.
    """
    time: NotRequired[str | None]
    """
    The node's clock, RFC 3339 in UTC. Null: the node does not know the time.
    """
    uptime_s: float
    """
    Time since the node's start, in seconds.
    """
    version: str
    """
    Version of the node's program.
    """


class DetectionAnswer(TypedDict):
    """
    A detected vocalisation.
    """

    context: ContextAnswer
    """
    The context, as classified.
    """
    end_s: float
    """
    End, in seconds since the start of the audio.
    """
    measurements: MeasurementsAnswer
    """
    Acoustic measurements.
    """
    score: float
    """
    How likely it is a cat, 0 to 1.
    """
    start_s: float
    """
    Onset, in seconds since the start of the audio. Gaps count as time.
    """


class EventAnswer(TypedDict):
    """
    An event: a stored vocalisation with its clip.
    """

    also_heard_by: list[str]
    """
    The other nodes that heard the same sound, if this event is the one that is shown: their ids, or the URLs of
    those that have proved none.
    """
    below_min_score: NotRequired[float | None]
    """
    `min_score` of the node when the event was stored, if the score was below it. Nobody was notified of it, and it
    is not counted unless it has a label. Null: the score was high enough, or the node had no `min_score`.
    """
    boot_id: str
    """
    Boot id of the node, 16 hexadecimal digits. With the boot id, a sample number is unique.
    """
    cat: NotRequired[str | None]
    """
    The cat: the one that the owner named for the event, otherwise `node_cat`. Null: neither has a name.
    """
    cat_named_at: NotRequired[str | None]
    """
    When the owner said which cat it was. Null: the owner did not.
    """
    clip: NotRequired[ClipAnswer | None]
    clock: str
    """
    Whose clock gave the times: `node`, or `hub` if the node did not know the time.
    """
    context: ContextAnswer
    """
    The context, as classified.
    """
    counts_as: str
    """
    What the event counts as: the label, or the context if there is no label. `uncertain` for a label of the
    owner's own.
    """
    duration_s: float
    """
    Length in seconds.
    """
    end_sample: int
    """
    The sample after the last one.
    """
    ended_at: str
    """
    When the vocalisation ended, RFC 3339 in UTC.
    """
    first_context: NotRequired[ContextAnswer | None]
    first_suggested_label: NotRequired[str | None]
    """
    The label that was suggested first, if the event was re-evaluated. Null: none was, or the event was not.
    """
    id: int
    """
    Number of the event.
    """
    kind: NotRequired[str | None]
    """
    Kind of sound: `meow`, `purr` or `hiss_or_growl`. Null: unknown.
    """
    label: NotRequired[str | None]
    """
    The owner's label: `waiting_for_food`, `isolation`, `brushing`, `not_a_cat`, or the name of a label of the
    owner's own. Null: no label.
    """
    labelled_at: NotRequired[str | None]
    """
    When the owner set the label. Null: no label.
    """
    like_false_alarms: list[int]
    """
    Events labelled `not_a_cat` that this one sounded like when it was stored. Nobody was notified of it, and it is
    not counted unless it has a label. Empty: it was like none.
    """
    measurements: MeasurementsAnswer
    """
    Acoustic measurements.
    """
    no_clip_reason: NotRequired[str | None]
    """
    Why there is no clip: `disabled`, `disk_full`, `over_quota`, `write_failed`, `audio_gone`, `speech`, `expired`
    or `missing`.
    """
    node: str
    """
    URL of the node that recorded it.
    """
    node_cat: NotRequired[str | None]
    """
    The cat of the node, whatever the owner said. Null: the node has no cat's name.
    """
    node_id: NotRequired[str | None]
    """
    Id of the node, 64 hexadecimal digits: the same whatever its URL is. Null: the node has proved none.
    """
    recovered: bool
    """
    Whether the event was lost with its database and came back from its clip. Nobody was notified of it then.
    """
    same_sound_as: NotRequired[int | None]
    """
    Number of the event that is shown for the same sound, which another node heard too. Null: this event is shown
    itself.
    """
    score: float
    """
    How likely it is a cat, 0 to 1.
    """
    start_sample: int
    """
    First sample (16 kHz), counted from the node's start.
    """
    started_at: str
    """
    When the vocalisation began, RFC 3339 in UTC.
    """
    suggested_label: NotRequired[str | None]
    """
    Label of the owner's own that the hub suggests, because the event sounds like those that have it. Null: none.
    `context` is `uncertain` then.
    """
    suggested_probability: NotRequired[float | None]
    """
    How probable it is that the owner would choose `suggested_label`, 0 to 1. Null: none is suggested.
    """


class EventsAnswer(TypedDict):
    """
    A page of events.
    """

    events: list[EventAnswer]
    """
    Latest first.
    """
    next_cursor: NotRequired[str | None]
    """
    Send it as `cursor` to get the next page. Null: this is the last page.
    """


class FullAnswer(AnalysisAnswer):
    """
    An analysis with its detections.
    """

    detections: list[DetectionAnswer]
    """
    The detected vocalisations, earliest first.
    """


class LabelAnswer(TypedDict):
    """
    A label that the owner set or removed.
    """

    event: EventAnswer
    """
    The event in its current state.
    """
    id: int
    """
    Number of the label.
    """
    label: NotRequired[str | None]
    """
    `waiting_for_food`, `isolation`, `brushing`, `not_a_cat`, or the name of a label of the owner's own. Null: an
    earlier label was removed.
    """
    labelled_at: str
    """
    When the owner set it, RFC 3339 in UTC.
    """


class LabelledAnswer(EventAnswer):
    """
    An event with its new label, and what the label did to others.
    """

    changed: int
    """
    How many other events of the cat have another context or another suggested label now. They have no label.
    """
    undo: NotRequired[str | None]
    """
    Path to which a POST puts these events back. Null: no other event changed.
    """


class LabelsAnswer(TypedDict):
    """
    A page of labels.
    """

    labels: list[LabelAnswer]
    """
    In the order in which the owner set them. The last label of an event counts.
    """
    next_cursor: NotRequired[str | None]
    """
    Send it as `cursor` to get the next page. Null: this is the last page.
    """


class ListAnswer(TypedDict):
    """
    A page of analyses.
    """

    analyses: list[AnalysisAnswer]
    """
    Latest first.
    """
    next_cursor: NotRequired[str | None]
    """
    Send it as `cursor` to get the next page. Null: this is the last page.
    """


class ListeningAnswer(TypedDict):
    """
    State of live listening.
    """

    age_deletion_paused_since: NotRequired[str | None]
    """
    Since when nothing is deleted by age, because the hub's clock is in doubt, RFC 3339 in UTC by that clock. Null:
    deletion by age is not paused.
    """
    clips: ClipCountsAnswer
    """
    Counts of clips since the hub's start.
    """
    live_listeners: list[LiveListener]
    """
    Who hears live audio through this hub now, at most 8.
    """
    nodes: list[NodeListening]
    """
    All nodes.
    """
    not_stored: NotRequired[str | None]
    """
    Why nothing that is heard can be stored now. Null: it is stored.
    """


class NodeAnswer(TypedDict):
    """
    A node.
    """

    cat: NotRequired[str | None]
    """
    The cat of the node: from the hub's config, or else from the node.
    """
    condition: str
    """
    Its condition, as in `/readyz`: `ok`, `no_audio`, or why it is not heard or not stored.
    """
    description: NotRequired[Description | None]
    discovered: bool
    """
    Whether the node was found by mDNS and is not in the config.
    """
    error: NotRequired[NodeError | None]
    min_score: NotRequired[float | None]
    """
    `min_score` of the node in the hub's config: events with a lower score are not announced. Null: it has none.
    """
    node_id: NotRequired[str | None]
    """
    Id of the node, 64 hexadecimal digits: the same whatever its URL is. Null: the node has proved none.
    """
    reachable: bool
    """
    Whether the node answered this request.
    """
    url: str
    """
    URL of the node.
    """


class NodesAnswer(TypedDict):
    """
    The nodes.
    """

    live_audio: bool
    """
    Whether `/api/v1/nodes/live.wav` is enabled.
    """
    nodes: list[NodeAnswer]
    """
    Configured nodes in the order of the config, then discovered nodes.
    """
    refused: int
    """
    How often the hub turned away an announced node: it has 64 nodes already, too many wait, or the node claims the
    name of another one.
    """
    waiting: list[WaitingAnswer]
    """
    Discovered nodes that wait until a person admits them, at most 64. The hub does not listen to them, does not
    call them, and reports no trouble about them.
    """


class PrivacyAnswer(TypedDict):
    """
    What the hub stores, where and how long, by the settings in effect.
    """

    audit_log: AuditStored
    """
    Who did what, in the database.
    """
    backups: BackupsStored
    """
    Backups: copies of everything outside the data folder.
    """
    clips: ClipsStored
    """
    Recordings of events, in the folder `clips`.
    """
    data_dir: str
    """
    The folder that holds everything but backups.
    """
    deletions: list[DeletionAnswer]
    """
    The deletions that were asked for, the latest first, at most 50.
    """
    events: EventsStored
    """
    What was heard and when, in the database `hub.sqlite`, and the owner's labels, there and in `labels.jsonl`.
    """
    live_audio: LiveAudio
    """
    Live audio. The hub does not store it.
    """
    notifications: NotificationsStored
    """
    Notifications to owners, in the database.
    """
    other_copies: list[str]
    """
    Files and folders in the data folder that the hub does not use or change: damaged databases that were moved
    aside, and what was there before a restore. They still hold what they held.
    """
    quarantine: QuarantineStored
    """
    Recordings without an event, in the folder `quarantine`: what a lost database leaves.
    """
    session_days: int
    """
    After how many days without use a browser is logged out.
    """
    snapshots: SnapshotsStored
    """
    Daily copies of the database, in the folder `snapshots`.
    """


class Problem(TypedDict):
    """
    Body of every error answer.
    """

    error: ProblemDetail
    """
    The error.
    """

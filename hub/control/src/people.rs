//! Commands about users and tokens: for a running hub over its socket, else on the store itself.

use hub_base::error::{Code, Error};
use hub_base::time::rfc3339;
use hub_people::{By, NewUser, People, UserRole};

use crate::protocol::{Answer, PeopleCommand, TokenLine, UserLine};

/// Who gave a command, in the audit log.
pub(crate) const WHO: &str = "command";

/// Carries out a command, and notes it in the audit log.
///
/// # Errors
/// See [`People`].
pub async fn run(command: PeopleCommand, people: &People) -> Result<Answer, Error> {
    let (action, name, answer) = match command {
        PeopleCommand::ListUsers => return Ok(Answer::Users(users(people).await?)),
        PeopleCommand::ListTokens => return Ok(Answer::Tokens(tokens(people).await?)),
        PeopleCommand::AddUser { name, role, password } => {
            let role = match role {
                Some(word) => role_of(&word)?,
                // Users that are lost do not count.
                None if people.users().await?.is_empty() => UserRole::Admin,
                None => UserRole::Viewer,
            };
            people.add_user(NewUser { name: name.clone(), role, password }).await?;
            ("add_user", name.clone(), Answer::Done(vec![format!("{name} ({role})")]))
        }
        PeopleCommand::SetPassword { name, password } => {
            people.set_password(&name, &password).await?;
            ("set_password", name.clone(), Answer::Done(vec![name]))
        }
        PeopleCommand::SetRole { name, role } => {
            let role = role_of(&role)?;
            people.set_role(&name, role).await?;
            ("set_role", name.clone(), Answer::Done(vec![format!("{name} ({role})")]))
        }
        PeopleCommand::RemoveUser { name } => {
            people.remove_user(&name, By::Command).await?;
            ("remove_user", name.clone(), Answer::Done(vec![name]))
        }
        PeopleCommand::AddToken { name, role, days } => {
            let secret = people.add_token(&name, role_of(&role)?, days).await?;
            ("add_token", name, Answer::Token(secret.expose().to_owned()))
        }
        PeopleCommand::RemoveToken { name } => {
            people.remove_token(&name).await?;
            ("remove_token", name.clone(), Answer::Done(vec![name]))
        }
    };
    people.record(WHO, None, action, &name).await;
    Ok(answer)
}

fn role_of(word: &str) -> Result<UserRole, Error> {
    word.parse().map_err(|why: String| Error::new(Code::BadRequest, why))
}

async fn users(people: &People) -> Result<Vec<UserLine>, Error> {
    let line = |user: hub_store::people::User| UserLine {
        name: user.name,
        role: user.role,
        created_at: rfc3339(user.created_at_ns),
        used_at: user.used_at_ns.map(rfc3339),
    };
    Ok(people.users().await?.into_iter().map(line).collect())
}

async fn tokens(people: &People) -> Result<Vec<TokenLine>, Error> {
    let line = |token: hub_store::people::Token| TokenLine {
        name: token.name,
        role: token.role,
        created_at: rfc3339(token.created_at_ns),
        expires_at: token.expires_at_ns.map(rfc3339),
        used_at: token.used_at_ns.map(rfc3339),
    };
    Ok(people.tokens().await?.into_iter().map(line).collect())
}

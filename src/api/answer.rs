//! How a command is run and answered: the same for all but bulk prices.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::body;
use super::headers::CommandHeaders;
use super::problem::{self, Problem};
use super::schema::Place;
use crate::commands::{Answer, Command, Refusal, Request};
use crate::domain::ids::{Epoch, Position};

/// How long a command may take before the answer is 503.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The facts that a command became. A resend with the same key gets the same document, whatever has happened since.
#[derive(Serialize, ToSchema)]
pub struct CommandAnswer {
    /// The command.
    command_id: Uuid,
    /// The stream it changed.
    #[schema(example = "portfolio-019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90")]
    stream_id: String,
    /// The id of what the stream is about: the investor, asset, portfolio or job.
    id: String,
    /// The version that this gave the stream: what `If-Match` takes.
    #[schema(example = 7)]
    version: i64,
    /// Place of its last event: what `min_position` takes.
    #[schema(value_type = Place)]
    place: String,
    /// The facts, in order; empty when nothing changed.
    events: Vec<CommandEvent>,
}

/// A fact that a command became.
#[derive(Serialize, ToSchema)]
pub struct CommandEvent {
    /// Its name, the same in every copy of it.
    #[schema(example = "0f8e4c1a-3d5b-5c2e-9f7a-6b1d2c3e4f50.0")]
    event_id: String,
    /// What happened.
    #[schema(example = "AssetBought")]
    r#type: &'static str,
    /// Its place in the log.
    #[schema(example = 901)]
    position: i64,
}

impl From<Answer> for CommandAnswer {
    fn from(answer: Answer) -> Self {
        let events = answer.events.into_iter().map(|event| CommandEvent {
            event_id: event.event_id.to_string(),
            r#type: event.event_type,
            position: event.position.0,
        });
        Self {
            command_id: answer.command_id,
            id: answer.stream_id.kind_and_rest().1.to_owned(),
            stream_id: answer.stream_id.to_string(),
            version: answer.version.0,
            place: place(answer.epoch, answer.position),
            events: events.collect(),
        }
    }
}

/// A place as clients see it.
pub fn place(epoch: Epoch, position: Position) -> String {
    format!("{epoch}:{position}")
}

/// What a handler has read of a request: the wish, and what goes with it.
pub struct Wish {
    /// What is wished.
    pub command: Command,
    /// The headers.
    pub headers: CommandHeaders,
    /// Hash of the body.
    pub hash: body::Sha256Hash,
    /// When it happened, if the client says so.
    pub occurred_at: Option<DateTime<Utc>>,
}

impl Api {
    /// Runs a command that changes something.
    pub(super) async fn change(&self, wish: Wish) -> Result<Response, Problem> {
        let answer = self.run(wish).await?;
        let status = if answer.events.is_empty() { StatusCode::OK } else { StatusCode::CREATED };
        Ok((status, Json(CommandAnswer::from(answer))).into_response())
    }

    /// Runs a command that creates something, found below `collection` from now on.
    pub(super) async fn create(&self, collection: &str, wish: Wish) -> Result<Response, Problem> {
        let answer = self.run(wish).await?;
        // What was there before, just so, is no news.
        let status = if answer.events.is_empty() { StatusCode::OK } else { StatusCode::CREATED };
        let answer = CommandAnswer::from(answer);
        let location: [(HeaderName, HeaderValue); 1] = [(
            header::LOCATION,
            format!("{collection}/{}", answer.id).try_into().expect("a path of visible characters"),
        )];
        Ok((status, location, Json(answer)).into_response())
    }

    async fn run(&self, wish: Wish) -> Result<Answer, Problem> {
        let command_id = wish.headers.command_id;
        let request = Request {
            command: wish.command,
            command_id,
            request_hash: wish.hash[..].into(),
            actor: self.actor.clone(),
            correlation_id: wish.headers.correlation_id,
            if_match: wish.headers.if_match,
            occurred_at: wish.occurred_at,
            deadline: Instant::now() + DEADLINE,
        };
        let executed = self.pulse.while_alive(self.commands.execute(request)).await;
        executed
            .unwrap_or_else(|_| Err(Refusal::unreachable()))
            .map_err(|refusal| refused(refusal, command_id))
    }
}

/// Why there is no answer, as a problem.
pub fn refused(refusal: Refusal, command_id: Uuid) -> Problem {
    match refusal {
        Refusal::Rejected(rejection) => rejection.into(),
        Refusal::KeyReused => Problem::new(problem::KEY_REUSED, refusal.to_string()),
        Refusal::Busy { retry_after_seconds, reason } => {
            Problem::busy(reason, retry_after_seconds).about(command_id)
        }
        Refusal::Internal(reason) => Problem::internal(reason).about(command_id),
    }
}

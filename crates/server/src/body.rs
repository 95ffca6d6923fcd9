//! Reads request bodies: bounded in bytes and time each, and in bytes all together.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use base::limits;
use http_body_util::BodyExt;
use protocol::ApiError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// One permit stands for this many bytes.
const PERMIT_BYTES: usize = 1024;

/// Bytes of all bodies in memory.
pub(crate) fn budget(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((limits.bodies_bytes / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS)))
}

/// A body and its share of the budget.
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    share: Share,
}

/// What somebody holds of the budget.
pub(crate) struct Share {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Of nothing yet.
    pub(crate) fn new(budget: &Arc<Semaphore>) -> Self {
        Self { budget: Arc::clone(budget), held: None }
    }

    /// Grows until it covers so many bytes.
    ///
    /// # Errors
    /// 503 when all of them together would be too many.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<(), ApiError> {
        let permits = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = bytes.div_ceil(PERMIT_BYTES);
        if needed <= permits {
            return Ok(());
        }
        let more = u32::try_from(needed - permits).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.budget).try_acquire_many_owned(more).map_err(|_| {
            ApiError::unavailable("overloaded", "Too many large requests are being read. Try again soon.", 1)
        })?;
        match &mut self.held {
            Some(held) => held.merge(share),
            held => *held = Some(share),
        }
        Ok(())
    }
}

/// Reads the whole body.
///
/// # Errors
/// 413 too large, 408 too slow, 503 too many at once, 400 broken off.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limits: &Limits,
    budget: &Arc<Semaphore>,
) -> Result<Received, ApiError> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|n| n > limits.body_bytes as u64) {
        if !headers.contains_key(header::EXPECT) {
            discard(&mut body, limits.body_bytes).await;
        }
        return Err(too_large(limits));
    }
    match tokio::time::timeout(limits.body_read, collect(&mut body, limits, budget)).await {
        Ok(Err(e)) if e.status == 413 => {
            discard(&mut body, limits.body_bytes).await;
            Err(e)
        }
        Ok(result) => result,
        Err(_) => {
            let s = limits.body_read.as_secs_f32();
            Err(ApiError::of(408, "body_timeout", format!("The body did not arrive within {s} s. Send it faster.")))
        }
    }
}

async fn collect(body: &mut Body, limits: &Limits, budget: &Arc<Semaphore>) -> Result<Received, ApiError> {
    let mut received = Received { bytes: Vec::new(), share: Share::new(budget) };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("body_broken", "The body broke off. Send it whole."))?;
        let Ok(data) = frame.into_data() else { continue };
        if received.bytes.len() + data.len() > limits.body_bytes {
            return Err(too_large(limits));
        }
        received.share.cover(received.bytes.len() + data.len())?;
        received.bytes.extend_from_slice(&data);
    }
    Ok(received)
}

/// Reads on and throws away, for a bounded time and length, so that the client reads our answer instead of a reset.
async fn discard(body: &mut Body, body_bytes: usize) {
    let mut left = body_bytes.saturating_mul(limits::DISCARD_BODIES_MAX);
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |d| d.len()));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(limits::DISCARD_S_MAX), rest).await;
}

fn too_large(limits: &Limits) -> ApiError {
    let max = limits.body_bytes;
    ApiError::of(413, "body_too_large", format!("The body is larger than {max} bytes. Send less."))
}

//! Results over Arrow Flight: one `DoGet` per statement, with the ticket that its event carries.

use std::pin::Pin;
use std::time::Duration;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use drumline_proto::v1::ResultTicket;
use drumline_security::{Seal, SealError};
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Applications;
use super::results::FetchError;
use crate::error::status;

const PURPOSE: &str = "result";
/// A result that nobody has begun to fetch for a day is not fetched any more.
const GOOD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What a client shows to fetch a result.
pub(super) fn seal_ticket(seal: &Seal, ticket: &ResultTicket) -> Vec<u8> {
    seal.seal(PURPOSE, &ticket.encode_to_vec(), GOOD_FOR)
}

fn open_ticket(seal: &Seal, sealed: &[u8]) -> Result<ResultTicket, Status> {
    let forged = || Status::invalid_argument("the ticket is not one of this master's");
    let ticket = seal.open(PURPOSE, sealed).map_err(|error| match error {
        SealError::Forged => forged(),
        SealError::Expired => {
            Status::failed_precondition("the ticket has expired: results are fetched within a day")
        }
    })?;
    ResultTicket::decode(ticket).map_err(|_| forged())
}

/// Serves `DoGet`; a master has no use for the protocol's other calls.
pub(crate) struct ResultsService {
    applications: Applications,
}

impl ResultsService {
    pub(crate) fn new(applications: Applications) -> Self {
        Self { applications }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn unused<T>() -> Result<T, Status> {
    Err(Status::unimplemented(
        "a master's Flight service answers DoGet only",
    ))
}

#[tonic::async_trait]
impl FlightService for ResultsService {
    type DoGetStream = Answers<FlightData>;

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let seal = &self.applications.services().tickets;
        let ResultTicket {
            application_id,
            ordinal,
        } = open_ticket(seal, &request.into_inner().ticket)?;
        let Some(slot) = self.applications.result(&application_id, ordinal)? else {
            let message =
                format!("statement {ordinal} of application '{application_id}' has no result");
            return Err(Status::not_found(message));
        };
        let rows = slot.fetch().map_err(|error| match error {
            FetchError::FetchedAlready => {
                let message = format!("the result of statement {ordinal} has been fetched already");
                Status::failed_precondition(message)
            }
            FetchError::Failed(failure) => status(&failure, ordinal),
        })?;
        let rows = ReceiverStream::new(rows)
            .map_err(move |failure| FlightError::Tonic(Box::new(status(&failure, ordinal))));
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(slot.schema().clone())
            .build(rows)
            .map_err(Status::from);
        let rows = self.applications.until_gone(encoded.boxed());
        Ok(Response::new(rows.boxed()))
    }

    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        unused()
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        unused()
    }

    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        unused()
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        unused()
    }

    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        unused()
    }

    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        unused()
    }

    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        unused()
    }

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        unused()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        unused()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn only_tickets_of_this_master_are_taken_and_not_for_ever() {
        let seal = Seal::random().unwrap();
        let ticket = ResultTicket {
            application_id: "a".to_owned(),
            ordinal: 3,
        };
        let good = seal_ticket(&seal, &ticket);
        assert_eq!(open_ticket(&seal, &good).unwrap(), ticket);

        let plain = ticket.encode_to_vec();
        let mut changed = good.clone();
        changed[12] ^= 1;
        let others = seal_ticket(&Seal::random().unwrap(), &ticket);
        let of_another_kind = seal.seal("session", &plain, GOOD_FOR);
        for forged in [plain.clone(), changed, others, of_another_kind, vec![]] {
            let status = open_ticket(&seal, &forged).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
        let old = seal.seal(PURPOSE, &plain, Duration::ZERO);
        let status = open_ticket(&seal, &old).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
}

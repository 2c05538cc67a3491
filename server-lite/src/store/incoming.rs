//! What of a request is to be stored: a pure decision, made before anything is written.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use wire::{
    EncodedSchema, Gap, SchemaId,
    request::{self, Body, Header},
};

use super::{IngestBatch, IngestError};

/// A request without its values: they are stored as they came.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Who sends.
    pub(crate) header: Header,
    /// Schemas sent along.
    pub(crate) schemas: Vec<Arc<EncodedSchema>>,
    /// What each record is, in order.
    pub(crate) records: Vec<Record>,
    /// The request as it came.
    pub(crate) body: Bytes,
    /// Unix milliseconds when it came.
    pub(crate) received_ms: i64,
    /// As [`IngestBatch::is_alone`].
    pub(crate) is_alone: bool,
    /// As [`IngestBatch::number`].
    pub(crate) number: u64,
    /// As [`IngestBatch::after`].
    pub(crate) after: u64,
}

/// A record without its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// Its place in the stream.
    pub(crate) seq: u64,
    /// What it is.
    pub(crate) what: What,
    /// Its checksum, unless it stands for another record under its number: see [`super::sums`].
    pub(crate) sum: Option<u32>,
}

/// What a record is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A tick.
    Tick {
        /// Unix milliseconds.
        time_ms: i64,
        /// Schemas it names.
        schemas: Vec<SchemaId>,
        /// Values it carries.
        values: u64,
    },
    /// Something is missing.
    Gap(Gap),
}

impl From<IngestBatch> for Incoming {
    fn from(batch: IngestBatch) -> Self {
        let IngestBatch { request, body, received_ms, is_alone, number, after } = batch;
        let records = request.records.into_iter().map(|record| Record {
            seq: record.seq,
            sum: (!stands_in(&record)).then(|| record.checksum()),
            what: match record.body {
                Body::Metrics(tick) => What::Tick {
                    time_ms: tick.time_ms,
                    values: tick.values.len() as u64,
                    schemas: tick.schemas,
                },
                Body::Gap(gap) => What::Gap(gap),
            },
        });
        Self {
            records: records.collect(),
            header: request.header,
            schemas: request.schemas,
            body,
            received_ms,
            is_alone,
            number,
            after,
        }
    }
}

/// Whether it is a gap that stands for what its own number was given to before.
fn stands_in(record: &request::Record) -> bool {
    matches!(&record.body, Body::Gap(gap)
        if gap.first_seq > 0 && (gap.first_seq..=gap.last_seq).contains(&record.seq))
}

impl Incoming {
    /// Samples in it: what it costs to write.
    pub(crate) fn samples(&self) -> usize {
        let samples = self.records.iter().map(|record| match record.what {
            What::Tick { values, .. } => values,
            What::Gap(_) => 0,
        });
        usize::try_from(samples.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// The schema of that name that was sent along.
    pub(crate) fn sent(&self, id: SchemaId) -> Option<&Arc<EncodedSchema>> {
        self.schemas.iter().find(|schema| schema.id == id)
    }
}

/// What is to be done with a request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Records at the front that are there already.
    pub(crate) duplicates: usize,
    /// Records after them that are to be stored.
    pub(crate) take: usize,
    /// Schemas that were sent, are not known, and are needed by a record that is no duplicate.
    pub(crate) register: BTreeSet<SchemaId>,
    /// Schemas that nobody has sent and a record that is no duplicate needs.
    pub(crate) missing: BTreeSet<SchemaId>,
}

/// Decides what to store. `known` gives the number of series of a schema that is stored.
///
/// # Errors
/// [`IngestError::BadRecord`] when a record's values don't fit its schemas.
pub(crate) fn plan(
    incoming: &Incoming,
    acked_seq: Option<u64>,
    known: impl Fn(SchemaId) -> Option<u64>,
) -> Result<Plan, IngestError> {
    let acked = acked_seq.unwrap_or(0);
    let duplicates = incoming.records.partition_point(|record| record.seq <= acked);
    let mut plan = Plan { duplicates, ..Plan::default() };
    for (index, record) in incoming.records.iter().enumerate().skip(duplicates) {
        if let What::Tick { schemas, values, .. } = &record.what {
            let expected = plan.series_of(incoming, schemas, &known);
            if expected.is_some_and(|expected| expected != *values) {
                return Err(mismatch(index, record.seq, *values, expected));
            }
        }
        if plan.missing.is_empty() {
            plan.take += 1;
        }
    }
    Ok(plan)
}

impl Plan {
    /// Series of all these schemas together, if all are known or were sent.
    fn series_of(
        &mut self,
        incoming: &Incoming,
        schemas: &[SchemaId],
        known: impl Fn(SchemaId) -> Option<u64>,
    ) -> Option<u64> {
        let mut series = Some(0);
        for id in schemas {
            let count = known(*id).or_else(|| {
                let sent = incoming.sent(*id)?;
                self.register.insert(*id);
                Some(sent.schema.series.len() as u64)
            });
            if count.is_none() {
                self.missing.insert(*id);
            }
            series = series.zip(count).map(|(sum, count)| sum + count);
        }
        series
    }
}

fn mismatch(index: usize, seq: u64, values: u64, expected: Option<u64>) -> IngestError {
    let expected = expected.unwrap_or(0);
    let reason = format!("{values} values, but its schemas have {expected} series");
    IngestError::BadRecord { index, seq, reason }
}

#[cfg(test)]
mod tests {
    use wire::{AgentId, Family, GapReason, InstanceId, MetricKind, Schema, Series, StreamId};

    use super::*;

    /// A schema of so many series; its content depends on nothing else.
    fn schema(series: usize) -> Arc<EncodedSchema> {
        let family = Family { name: "m".into(), kind: MetricKind::Gauge, help: String::new() };
        let series =
            (0..series).map(|n| Series { family: 0, labels: vec![("n".into(), n.to_string())] });
        EncodedSchema::new(Schema {
            collector: "c".into(),
            families: vec![family],
            series: series.collect(),
        })
    }

    fn tick(seq: u64, schemas: &[usize], values: u64) -> Record {
        let schemas = schemas.iter().map(|series| schema(*series).id).collect();
        Record { seq, what: What::Tick { time_ms: 0, schemas, values }, sum: None }
    }

    fn gap(seq: u64) -> Record {
        let gap = Gap {
            reason: GapReason::AgentDown,
            from_ms: 0,
            to_ms: 1,
            first_seq: 0,
            last_seq: 0,
            records: 0,
            samples: 0,
            detail: String::new(),
        };
        Record { seq, what: What::Gap(gap), sum: None }
    }

    /// Duplicates, records taken, schemas registered, schemas missing.
    type Expected<'a> = (usize, usize, &'a [usize], &'a [usize]);

    /// The hub knows the schemas of 1 and 2 series; those in `sent` come along.
    fn check(
        records: &[Record],
        sent: &[usize],
        acked: Option<u64>,
        expected: Result<Expected<'_>, &str>,
    ) {
        let incoming = Incoming {
            header: Header {
                agent_id: AgentId::from_bytes([1; 16]),
                instance_id: InstanceId::from_bytes([3; 16]),
                stream_id: StreamId::from_bytes([2; 16]),
                hostname: "h".into(),
                agent_version: "1".into(),
                sent_ms: 0,
                last_seq: None,
            },
            schemas: sent.iter().map(|series| schema(*series)).collect(),
            records: records.to_vec(),
            body: Bytes::new(),
            received_ms: 0,
            is_alone: true,
            number: 1,
            after: 1,
        };
        let known = |id| [1_u64, 2].into_iter().find(|n| schema(*n as usize).id == id);
        let ids = |of: &[usize]| of.iter().map(|n| schema(*n).id).collect::<BTreeSet<_>>();
        match (plan(&incoming, acked, known), expected) {
            (Ok(plan), Ok((duplicates, take, register, missing))) => {
                let (register, missing) = (ids(register), ids(missing));
                assert_eq!(plan, Plan { duplicates, take, register, missing });
            }
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (plan, expected) => panic!("expected {expected:?}, found {plan:?}"),
        }
    }

    #[test]
    fn what_is_there_is_skipped_and_what_is_known_taken() {
        let records = [tick(5, &[1], 1), gap(6), tick(7, &[1, 2], 3)];
        check(&records, &[], None, Ok((0, 3, &[], &[])));
        check(&records, &[], Some(4), Ok((0, 3, &[], &[])));
        check(&records, &[], Some(5), Ok((1, 2, &[], &[])));
        check(&records, &[], Some(9), Ok((3, 0, &[], &[])));
    }

    #[test]
    fn the_front_is_taken_up_to_the_first_unknown_schema() {
        let records = [tick(1, &[1], 1), tick(2, &[3], 3), tick(3, &[4, 1], 5), tick(4, &[1], 1)];
        check(&records, &[], None, Ok((0, 1, &[], &[3, 4])));
        check(&records, &[3], None, Ok((0, 2, &[3], &[4])));
        check(&records, &[4, 3, 9], None, Ok((0, 4, &[3, 4], &[])));
        check(&records, &[], Some(3), Ok((3, 1, &[], &[])));
    }

    #[test]
    fn values_have_to_fit_their_schemas() {
        let expected = Err("record 1 (seq 3): 4 values, but its schemas have 3 series");
        check(&[tick(1, &[1], 1), tick(3, &[1, 2], 4)], &[], None, expected);
        check(&[tick(1, &[3], 3), tick(3, &[1, 2], 4)], &[], None, expected);
        check(&[tick(1, &[1], 1), tick(3, &[3], 4)], &[3], None, expected);
        check(&[tick(1, &[1], 1), tick(3, &[1, 2], 4)], &[], Some(3), Ok((2, 0, &[], &[])));
    }
}

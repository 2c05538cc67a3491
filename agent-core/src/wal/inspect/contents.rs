//! What lies in a stretch of a log.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use wire::{EncodedSchema, Gap, Kind, SchemaId, envelope, request::Body};

use super::{InspectError, Place, StoppedLog, What, generation};
use crate::{
    Batch,
    sink::LogRecord,
    wal::{
        WalError,
        carve::Carved,
        ending::{Ending, damage_times},
        fault::Fault,
        salvage::{self, Missing},
        sidecar::{self, Tally},
    },
};

type SchemaMap = HashMap<SchemaId, Arc<EncodedSchema>>;

/// What lies in a stretch of a log.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its records as sinks would be given them, with gaps in the place of what can't be read.
    pub batch: Batch,
    /// Whole records that a scan of its bytes finds.
    pub raw_records: u64,
    /// Why its database doesn't give what was written, if it doesn't.
    pub damage: Option<String>,
    /// What can't be read.
    pub holes: Vec<Gap>,
}

/// A record that is undamaged and still says nothing: no sink will take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number.
    pub seq: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl Contents {
    /// The records whose payload can't be decoded or doesn't fit the schemas it names.
    pub fn refused(&self) -> impl Iterator<Item = Refused> {
        self.batch.records.iter().filter_map(|record| {
            let reason = check(record, &self.batch.schemas).err()?;
            Some(Refused { seq: record.seq, reason })
        })
    }
}

impl StoppedLog {
    /// Reads a stretch of the log.
    ///
    /// # Errors
    /// [`InspectError`] when it can't be read, or an agent has taken the log meanwhile. Damage is none.
    pub fn read(&self, place: &Place) -> Result<Contents, InspectError> {
        let contents = match &place.what {
            What::Gap(gap) => of_gap(place, gap)?,
            What::Sealed => self.sealed(place)?,
            What::Newest => self.newest(place)?,
        };
        self.visit.check()?;
        Ok(contents)
    }

    fn sealed(&self, place: &Place) -> Result<Contents, WalError> {
        let (first_seq, last_seq) = (place.first_seq, place.last_seq);
        let carved = generation::raw(&place.path, first_seq)?;
        match generation::sealed(&place.path, first_seq, last_seq) {
            Ok((records, schemas)) => Ok(whole(place, records, schemas, &carved)),
            Err(Fault::Io(error)) => Err(error),
            Err(Fault::Damaged(reason)) => {
                let index = self.places.iter().position(|other| other == place).unwrap_or(0);
                let before = index.checked_sub(1).and_then(|index| self.places.get(index));
                let (before, after) = (before.map(tally), self.places.get(index + 1).map(tally));
                let missing = Missing::new(first_seq, last_seq, &tally(place), &reason)
                    .between(before.as_ref(), after.as_ref());
                Ok(self.salvaged(place, carved, &missing))
            }
        }
    }

    fn newest(&self, place: &Place) -> Result<Contents, WalError> {
        let mut carved = generation::raw(&place.path, place.first_seq)?;
        let reason = match &self.ending {
            Ending::Lost(reason) => reason.clone(),
            Ending::Whole | Ending::CutShort => {
                match generation::readable(&place.path, place.first_seq) {
                    Ok((mut records, schemas)) => {
                        let end = records.last().map_or(place.first_seq - 1, |last| last.seq);
                        let mut schemas = Arc::unwrap_or_clone(schemas);
                        if place.last_seq > end
                            && let Some(bytes) = carved.records.get(&place.last_seq)
                        {
                            records.push(LogRecord { seq: place.last_seq, bytes: bytes.clone() });
                            schemas.extend(carved.schemas.drain());
                        }
                        return Ok(whole(place, records, Arc::new(schemas), &carved));
                    }
                    Err(Fault::Io(error)) => return Err(error),
                    Err(Fault::Damaged(reason)) => reason,
                }
            }
        };
        let before = self.places.iter().rev().nth(1);
        let before_ms = before.map(|before| tally(before).last_ms);
        let (_, to_ms) = damage_times(&place.path, &carved, before_ms);
        let first_ms = before_ms.unwrap_or(0);
        let tally = Tally { records: 1, samples: 0, first_ms, last_ms: to_ms };
        let missing = Missing::new(place.first_seq, place.last_seq, &tally, &reason);
        Ok(self.salvaged(place, carved, &missing))
    }

    /// What a repair would leave of a damaged generation.
    fn salvaged(&self, place: &Place, carved: Carved, missing: &Missing) -> Contents {
        let pieces = salvage::pieces(missing, &carved);
        let is_hole = |seq: &u64| !carved.records.contains_key(seq);
        let holes = pieces.iter().filter(|piece| is_hole(&piece.seq));
        let holes = holes.filter_map(|piece| salvage::gap_of(&piece.bytes)).collect();
        let raw_records = in_range(place, &carved);
        let named: BTreeSet<SchemaId> =
            pieces.iter().flat_map(|piece| salvage::schemas_named(&piece.bytes)).collect();
        let mut schemas = carved.schemas;
        salvage::find_schemas(&mut schemas, &named, self.generations());
        let records =
            pieces.into_iter().map(|piece| LogRecord { seq: piece.seq, bytes: piece.bytes });
        let batch = Batch {
            stream_id: place.stream,
            records: records.collect(),
            schemas: Arc::new(schemas),
        };
        Contents { batch, raw_records, damage: Some(missing.reason.clone()), holes }
    }

    /// The newest first.
    fn generations(&self) -> impl Iterator<Item = &Path> {
        let is_generation = |place: &&Place| !matches!(place.what, What::Gap(_));
        self.places.iter().rev().filter(is_generation).map(|place| place.path.as_path())
    }
}

fn of_gap(place: &Place, gap: &Gap) -> Result<Contents, WalError> {
    let bytes = envelope::encode(Kind::Gap, place.last_seq, &gap.encode())?;
    let records = vec![LogRecord { seq: place.last_seq, bytes }];
    let batch = Batch { stream_id: place.stream, records, schemas: Arc::default() };
    let unreadable = sidecar::read_gap(&place.path).is_none();
    let damage = unreadable.then(|| "is unreadable: what it stood for is not known".to_owned());
    Ok(Contents { batch, raw_records: 1, damage, holes: Vec::new() })
}

fn whole(
    place: &Place,
    records: Vec<LogRecord>,
    schemas: Arc<SchemaMap>,
    carved: &Carved,
) -> Contents {
    let raw_records = in_range(place, carved);
    let batch = Batch { stream_id: place.stream, records, schemas };
    Contents { batch, raw_records, damage: None, holes: Vec::new() }
}

fn in_range(place: &Place, carved: &Carved) -> u64 {
    let covered = place.first_seq..=place.last_seq;
    carved.records.keys().filter(|seq| covered.contains(seq)).count() as u64
}

/// What is noted of a stretch, else what can be counted.
fn tally(place: &Place) -> Tally {
    if let What::Gap(gap) = &place.what {
        return Tally { records: 1, samples: 0, first_ms: gap.from_ms, last_ms: gap.from_ms };
    }
    salvage::tally(&place.path, place.first_seq, place.last_seq)
}

fn check(record: &LogRecord, schemas: &SchemaMap) -> Result<(), String> {
    let (found, _) = envelope::split_first(&record.bytes).map_err(|error| error.to_string())?;
    let tick = match Body::decode(&found).map_err(|error| error.to_string())? {
        Body::Metrics(tick) => tick,
        Body::Gap(_) => return Ok(()),
    };
    let mut series = 0;
    for id in &tick.schemas {
        let missing = || format!("names schema {id}, which the log doesn't have");
        series += schemas.get(id).ok_or_else(missing)?.schema.series.len();
    }
    match tick.values.len() == series {
        true => Ok(()),
        false => Err(format!("has {} values for {series} series", tick.values.len())),
    }
}

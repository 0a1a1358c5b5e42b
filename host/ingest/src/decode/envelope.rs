//! What the signals have in common around their items: resources hold scopes, scopes hold items.

use std::borrow::Cow;

use prism_model::Table;

use super::resource::{Resources, Runs, Scopes, check_resource, check_scope, replace};
use super::{Context, Stop};
use crate::columns::ColumnError;
use crate::wire::{LEN, Reader, key, known, merge, utf8};

const FIRST: u32 = key(1, LEN);
const SECOND: u32 = key(2, LEN);
const SCHEMA_URL: u32 = key(3, LEN);
const KNOWN: u32 = known(&[1, 2, 3]);

/// The items of a signal while they are decoded.
pub(crate) trait Items<'a> {
    /// Adds one item's message (a metric's: all of its points), or counts its refusal.
    fn push(&mut self, message: &'a [u8], context: &mut Context) -> Result<(), Stop>;

    /// How many items were kept so far.
    fn rows(&self) -> u32;
}

/// Resources, scopes, and which items belong to which.
pub(crate) struct Envelopes<'a> {
    resources: Resources<'a>,
    scopes: Scopes<'a>,
    pub(crate) resource_of: Runs,
    pub(crate) scope_of: Runs,
}

impl<'a> Envelopes<'a> {
    /// Walks a whole `Export…ServiceRequest`.
    pub(crate) fn walk(
        body: &'a [u8],
        items: &mut impl Items<'a>,
        context: &mut Context,
    ) -> Result<Envelopes<'a>, Stop> {
        let mut envelopes = Envelopes {
            resources: Resources::new(context),
            scopes: Scopes::new(context),
            resource_of: Runs::default(),
            scope_of: Runs::default(),
        };
        let mut scopes = Vec::new();
        let mut reader = Reader::new(body);
        while let Some(field) = reader.next()? {
            match field {
                FIRST => envelopes.resource(reader.bytes()?, items, &mut scopes, context)?,
                other => reader.skip(other, known(&[1]))?,
            }
        }
        Ok(envelopes)
    }

    /// A `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`; its resource may stand behind its scopes.
    fn resource(
        &mut self,
        message: &'a [u8],
        items: &mut impl Items<'a>,
        scopes: &mut Vec<&'a [u8]>,
        context: &mut Context,
    ) -> Result<(), Stop> {
        let (mut resource, mut schema_url): (Option<Cow<'a, [u8]>>, &[u8]) = (None, &[]);
        scopes.clear();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field {
                FIRST => merge(&mut resource, reader.bytes()?)?,
                SECOND => scopes.push(reader.bytes()?),
                SCHEMA_URL => replace(&mut schema_url, reader.bytes()?)?,
                other => reader.skip(other, KNOWN)?,
            }
        }
        let before = items.rows();
        for scope in scopes {
            self.scope(scope, items, context)?;
        }
        let count = items.rows() - before;
        if count > 0 {
            self.resource_of.push(self.resources.intern(resource, schema_url, context)?, count);
        } else {
            utf8(schema_url)?;
            check_resource(&resource.unwrap_or_default(), context)?;
        }
        Ok(())
    }

    /// A `ScopeSpans`, `ScopeLogs` or `ScopeMetrics`; its scope may stand behind its items.
    fn scope(&mut self, message: &'a [u8], items: &mut impl Items<'a>, context: &mut Context) -> Result<(), Stop> {
        let (mut scope, mut schema_url): (Option<Cow<'a, [u8]>>, &[u8]) = (None, &[]);
        let before = items.rows();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field {
                FIRST => merge(&mut scope, reader.bytes()?)?,
                SECOND => items.push(reader.bytes()?, context)?,
                SCHEMA_URL => replace(&mut schema_url, reader.bytes()?)?,
                other => reader.skip(other, KNOWN)?,
            }
        }
        let count = items.rows() - before;
        if count > 0 {
            self.scope_of.push(self.scopes.intern(scope, schema_url, context)?, count);
        } else {
            utf8(schema_url)?;
            check_scope(&scope.unwrap_or_default(), context)?;
        }
        Ok(())
    }

    /// The tables of resources and scopes.
    pub(crate) fn finish(self, context: &mut Context) -> Result<[Table; 2], ColumnError> {
        Ok([self.resources.finish(context)?, self.scopes.finish(context)?])
    }
}

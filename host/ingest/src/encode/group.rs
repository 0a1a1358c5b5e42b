//! Items under their scopes under their resources, as OTLP nests them.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::{EntityRef, InstrumentationScope};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prism_model::{Batch, Intrinsic, Table, TableKind, Value};

use super::read::{Attributes, Cells};

/// Items of one resource.
pub(super) struct ByResource<T> {
    pub(super) resource: Option<Resource>,
    pub(super) schema_url: String,
    pub(super) scopes: Vec<ByScope<T>>,
}

/// Items of one scope.
pub(super) struct ByScope<T> {
    pub(super) scope: Option<InstrumentationScope>,
    pub(super) schema_url: String,
    pub(super) items: Vec<T>,
}

/// Groups the items of a batch, resources and scopes in the order in which they first come.
pub(super) fn group<T>(batch: &Batch, mut item: impl FnMut(usize) -> T) -> Vec<ByResource<T>> {
    let resource_of = Cells(batch.items()).u32(Intrinsic::Resource);
    let scope_of = Cells(batch.items()).u32(Intrinsic::Scope);
    let resources = Resources::new(batch);
    let scopes = Scopes::new(batch);
    let mut groups: Vec<ByResource<T>> = Vec::new();
    let mut group_of: HashMap<u32, usize> = HashMap::new();
    let mut scope_in_group: HashMap<(u32, u32), usize> = HashMap::new();
    for row in 0..batch.rows() {
        let (resource, scope) = (resource_of(row), scope_of(row));
        let group = *group_of.entry(resource).or_insert_with(|| {
            let (resource, schema_url) = resources.get(resource as usize);
            groups.push(ByResource { resource, schema_url, scopes: Vec::new() });
            groups.len() - 1
        });
        let scopes_of_group = &mut groups[group].scopes;
        let place = *scope_in_group.entry((resource, scope)).or_insert_with(|| {
            let (scope, schema_url) = scopes.get(scope as usize);
            scopes_of_group.push(ByScope { scope, schema_url, items: Vec::new() });
            scopes_of_group.len() - 1
        });
        scopes_of_group[place].items.push(item(row));
    }
    groups
}

struct Resources<'a> {
    table: Option<&'a Table>,
    attributes: Attributes<'a>,
}

impl<'a> Resources<'a> {
    fn new(batch: &'a Batch) -> Resources<'a> {
        Resources { table: batch.table(TableKind::Resources), attributes: Attributes::new(batch, TableKind::Resources) }
    }

    fn get(&self, row: usize) -> (Option<Resource>, String) {
        let Some(cells) = self.table.map(Cells) else { return (None, String::new()) };
        let resource = Resource {
            attributes: self.attributes.of(row),
            dropped_attributes_count: cells.u32(Intrinsic::DroppedAttributes)(row),
            entity_refs: cells.text(Intrinsic::EntityRefs).get(row).map(entity_refs).unwrap_or_default(),
        };
        (Some(resource).filter(|r| *r != Resource::default()), cells.text(Intrinsic::SchemaUrl).string(row))
    }
}

/// Entity references from their text form; what is no such form reads back as none.
fn entity_refs(text: &str) -> Vec<EntityRef> {
    let Ok(Value::Array(refs)) = Value::from_text(text) else { return Vec::new() };
    refs.into_iter().map(entity_ref).collect()
}

fn entity_ref(value: Value) -> EntityRef {
    let mut entity = EntityRef::default();
    let Value::Map(entries) = value else { return entity };
    for (key, value) in entries {
        match (key.as_str(), value) {
            ("schema_url", Value::Str(text)) => entity.schema_url = text,
            ("type", Value::Str(text)) => entity.r#type = text,
            ("id_keys", Value::Array(keys)) => entity.id_keys = keys.into_iter().filter_map(text_of).collect(),
            ("description_keys", Value::Array(keys)) => {
                entity.description_keys = keys.into_iter().filter_map(text_of).collect();
            }
            _ => {}
        }
    }
    entity
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

struct Scopes<'a> {
    table: Option<&'a Table>,
    attributes: Attributes<'a>,
}

impl<'a> Scopes<'a> {
    fn new(batch: &'a Batch) -> Scopes<'a> {
        Scopes { table: batch.table(TableKind::Scopes), attributes: Attributes::new(batch, TableKind::Scopes) }
    }

    fn get(&self, row: usize) -> (Option<InstrumentationScope>, String) {
        let Some(cells) = self.table.map(Cells) else { return (None, String::new()) };
        let scope = InstrumentationScope {
            name: cells.text(Intrinsic::Name).string(row),
            version: cells.text(Intrinsic::Version).string(row),
            attributes: self.attributes.of(row),
            dropped_attributes_count: cells.u32(Intrinsic::DroppedAttributes)(row),
        };
        (Some(scope).filter(|s| *s != InstrumentationScope::default()), cells.text(Intrinsic::SchemaUrl).string(row))
    }
}

//! The form in which an object leaves: itself, its metadata, or a row of a Table. Pure.
//!
//! Knows the three forms. Must not know verbs.

use std::hash::{DefaultHasher, Hash, Hasher};

use corten_api::meta;
use corten_api::resource::TypeRef;
use corten_api::table::{self, IncludeObject};

use jiff::Timestamp;
use serde_json::Value;

use crate::negotiate::{Form, Media, MetaVersion};
use crate::stored::{Damaged, Managed, Stored, TypeMeta};

#[derive(Clone)]
pub struct Shape {
    pub ty: TypeRef,
    pub form: Form,
    /// How lists and watches are written; what is a document of its own is rewritten afterwards.
    pub media: Media,
    pub include: IncludeObject,
}

impl Shape {
    #[must_use]
    pub fn meta(&self) -> TypeMeta<'_> {
        TypeMeta::of(&self.ty)
    }

    /// Tells this form of an object from every other: two forms share a number by a chance of one in 2^61.
    #[must_use]
    pub fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.ty.group, &self.ty.version, &self.ty.kind).hash(&mut hasher);
        (self.form, self.media, self.include).hash(&mut hasher);
        hasher.finish() >> 3
    }

    /// Appends what stands for one object: on its own in a get, after `"object":` in a watch.
    ///
    /// # Errors
    /// A stored value that is not ours.
    pub fn write_object(
        &self,
        out: &mut Vec<u8>,
        value: &[u8],
        revision: u64,
        header: bool,
        now: Timestamp,
    ) -> Result<(), Damaged> {
        let stored = Stored::new(value)?;
        match self.form {
            Form::Object | Form::Unmanaged => self.write_whole(out, stored, revision),
            Form::Partial(version) => stored.write_partial(out, version.api_version(), revision),
            Form::Table(version) => {
                self.open_table(
                    out,
                    version,
                    &format!("\"resourceVersion\":\"{revision}\""),
                    header,
                );
                self.write_row(out, version, stored, revision, now)?;
                out.extend_from_slice(b"]}");
                Ok(())
            }
        }
    }

    /// The object itself, in this form of it. Stored bytes go out as they are unless the form is another one.
    fn write_whole(&self, out: &mut Vec<u8>, stored: Stored<'_>, revision: u64) -> Result<(), Damaged> {
        if self.ty.converts() {
            put_json(out, &self.value(stored, revision)?);
        } else {
            stored.write_object(out, self.meta(), revision, self.managed())?;
        }
        Ok(())
    }

    fn managed(&self) -> Managed {
        match self.form {
            Form::Unmanaged => Managed::Left,
            _ => Managed::Kept,
        }
    }

    /// The object parsed, in this form of it.
    fn value(&self, stored: Stored<'_>, revision: u64) -> Result<Value, Damaged> {
        let mut value = stored.parse(self.meta(), revision)?;
        self.ty.from_stored(&mut value);
        if self.form == Form::Unmanaged {
            meta::metadata_mut(&mut value).remove("managedFields");
        }
        Ok(value)
    }

    /// Appends one item of a list.
    ///
    /// # Errors
    /// A stored value that is not ours.
    pub fn write_item(
        &self,
        out: &mut Vec<u8>,
        value: &[u8],
        revision: u64,
        now: Timestamp,
    ) -> Result<(), Damaged> {
        let stored = Stored::new(value)?;

        match self.form {
            Form::Object | Form::Unmanaged if self.ty.converts() => {
                let mut value = self.value(stored, revision)?;
                if let Some(top) = value.as_object_mut() {
                    top.remove("apiVersion");
                    top.remove("kind");
                }
                put_json(out, &value);
                Ok(())
            }
            Form::Object | Form::Unmanaged => stored.write_item(out, revision, self.managed()),
            Form::Partial(version) => stored.write_partial(out, version.api_version(), revision),
            Form::Table(version) => self.write_row(out, version, stored, revision, now),
        }
    }

    /// Appends a list up to its first item. `metadata` are the members of its `metadata`.
    pub fn open_list(&self, out: &mut Vec<u8>, metadata: &str) {
        match self.form {
            Form::Object | Form::Unmanaged => out.extend_from_slice(
                format!(
                    "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{{{metadata}}},\"items\":[",
                    self.ty.list_kind(),
                    self.ty.api_version()
                )
                .as_bytes(),
            ),
            Form::Partial(version) => out.extend_from_slice(
                format!(
                    "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{}\",\"metadata\":{{{metadata}}},\"items\":[",
                    version.api_version()
                )
                .as_bytes(),
            ),
            Form::Table(version) => self.open_table(out, version, metadata, true),
        }
    }

    fn open_table(&self, out: &mut Vec<u8>, version: MetaVersion, metadata: &str, header: bool) {
        out.extend_from_slice(
            format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"{}\",\"metadata\":{{{metadata}}},\"columnDefinitions\":",
                version.api_version()
            )
            .as_bytes(),
        );
        if header {
            put_json(out, &table::column_definitions(&self.ty));
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"rows\":[");
    }

    fn write_row(
        &self,
        out: &mut Vec<u8>,
        version: MetaVersion,
        stored: Stored<'_>,
        revision: u64,
        now: Timestamp,
    ) -> Result<(), Damaged> {
        let value = self.value(stored, revision)?;
        out.extend_from_slice(b"{\"cells\":");
        put_json(out, &Value::Array(self.ty.cells(&value, now)));
        match self.include {
            IncludeObject::None => {}
            IncludeObject::Metadata => {
                out.extend_from_slice(b",\"object\":");
                stored.write_partial(out, version.api_version(), revision)?;
            }
            IncludeObject::Object => {
                out.extend_from_slice(b",\"object\":");
                self.write_whole(out, stored, revision)?;
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// Appends the object of a bookmark: type, revision, and whether it ends the initial events.
    pub fn write_bookmark(&self, out: &mut Vec<u8>, revision: u64, initial_events_end: bool) {
        let annotations = if initial_events_end {
            ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}"
        } else {
            ""
        };
        let metadata = format!("\"resourceVersion\":\"{revision}\"{annotations}");
        let (kind, api_version) = match self.form {
            Form::Object | Form::Unmanaged => (&*self.ty.kind, self.ty.api_version()),
            Form::Partial(version) => ("PartialObjectMetadata", version.api_version().to_owned()),
            Form::Table(version) => {
                self.open_table(out, version, &metadata, false);
                out.extend_from_slice(b"]}");
                return;
            }
        };
        out.extend_from_slice(
            format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{{metadata},\"creationTimestamp\":null}}}}"
            )
            .as_bytes(),
        );
    }
}

/// A stored object that cannot be written as protobuf: none that went through decoding is like that.
pub fn no_protobuf(error: String) -> Damaged {
    tracing::error!(error, "an object has no protobuf form");
    Damaged
}

fn put_json(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a JSON value serialises");
}

//! One cache per kind and selection, shared by everyone in the process who asks for it.
//!
//! Knows how caches are fed. Must not know who reads them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Decoding};
use crate::decode::{self, Omit};
use crate::object::{KubeKind, PartialObject, Target};
use crate::reflect::{Form, Sink, reflect};
use crate::request::ApiClient;

/// What the identity of an object is not.
static IDENTITY: Omit = Omit::Of(&[(
    "metadata",
    Omit::Of(&[
        decode::MANAGED_FIELDS,
        ("labels", Omit::All),
        ("annotations", Omit::All),
    ]),
)]);

/// Which objects of a kind. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Empty: all namespaces.
    pub namespace: String,
    /// A label selector in its text form; empty: all.
    pub labels: String,
    /// A field selector in its text form; empty: all.
    pub fields: String,
}

impl Selection {
    pub fn all() -> Self {
        Selection::default()
    }

    pub fn namespace(namespace: impl Into<String>) -> Self {
        Selection {
            namespace: namespace.into(),
            ..Self::default()
        }
    }

    pub fn fields(fields: impl Into<String>) -> Self {
        Selection {
            fields: fields.into(),
            ..Self::default()
        }
    }

    pub fn labels(labels: impl Into<String>) -> Self {
        Selection {
            labels: labels.into(),
            ..Self::default()
        }
    }

    pub(crate) fn push_query(&self, path: &mut String) {
        for (name, value) in [("labelSelector", &self.labels), ("fieldSelector", &self.fields)] {
            if !value.is_empty() {
                path.push_str(&format!(
                    "&{name}={}",
                    utf8_percent_encode(value, NON_ALPHANUMERIC)
                ));
            }
        }
    }
}

/// The process's caches. Cheap to clone; every clone shares them.
#[derive(Clone)]
pub struct Informers {
    shared: Arc<Shared>,
}

struct Shared {
    api: ApiClient,
    shutdown: CancellationToken,
    caches: Mutex<HashMap<(TypeId, Selection), Box<dyn Any + Send + Sync>>>,
    /// The identities of the kinds that are cached whole.
    identities: Mutex<HashMap<Target, Identities>>,
    /// Older caches of the process, which live longer.
    beside: Option<Informers>,
}

type Identities = Box<dyn Fn() -> Cache<PartialObject> + Send + Sync>;

impl Informers {
    /// Nothing is fetched until someone asks for a kind; `shutdown` ends all watches.
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Informers::with(client, shutdown, None)
    }

    /// Caches that end with `shutdown`; identities of what `self` has in full are taken from there.
    pub fn beside(&self, client: Client, shutdown: CancellationToken) -> Self {
        Informers::with(client, shutdown, Some(self.clone()))
    }

    fn with(client: Client, shutdown: CancellationToken, beside: Option<Informers>) -> Self {
        let shared = Shared {
            api: ApiClient::new(client),
            shutdown,
            caches: Mutex::default(),
            identities: Mutex::default(),
            beside,
        };
        Informers {
            shared: Arc::new(shared),
        }
    }

    /// The cache of a kind; the first call starts its list and watch. Must be called within a tokio runtime.
    pub fn informer<K: KubeKind>(&self, selection: Selection) -> Cache<K> {
        self.informer_stripped(selection, &decode::MANAGED, None, |_| {})
    }

    /// Feeds `sink` with all there is of a kind, without a cache. Must be called within a tokio runtime.
    pub fn follow<K: KubeKind>(&self, selection: Selection, mut sink: impl Sink + 'static) {
        let (api, shutdown) = (self.shared.api.clone(), self.shared.shutdown.clone());
        tokio::spawn(
            async move { reflect(api, K::target(), selection, Form::Full, &mut sink, shutdown).await },
        );
    }

    /// As [`Informers::informer`], of objects without what none of this process's readers needs: `omit` is not even
    /// decoded, `strip` takes away the rest. `events`: how objects are decoded that come one by one. The first call decides.
    pub fn informer_stripped<K: KubeKind>(
        &self,
        selection: Selection,
        omit: &'static Omit,
        events: Option<Decoding<K>>,
        strip: fn(&mut K),
    ) -> Cache<K> {
        let mut caches = self.shared.caches.lock();
        let key = (TypeId::of::<K>(), selection.clone());
        if let Some(cache) = caches
            .get(&key)
            .and_then(|cache| cache.downcast_ref::<Cache<K>>())
        {
            return cache.clone();
        }
        let cache = Cache::<K>::new();
        caches.insert(key, Box::new(cache.clone()));
        if selection == Selection::all() {
            let cache = cache.clone();
            let identities = Box::new(move || cache.identities());
            self.shared.identities.lock().insert(K::target(), identities);
        }
        let mut feed = cache.feed_stripped(omit, strip).with_events(events);
        let (api, shutdown) = (self.shared.api.clone(), self.shared.shutdown.clone());
        tokio::spawn(
            async move { reflect(api, K::target(), selection, Form::Full, &mut feed, shutdown).await },
        );
        cache
    }

    /// A cache of only the identity of objects of any kind (no labels, no annotations): of what is cached in full already,
    /// or with a watch of its own. Not shared.
    pub fn metadata(&self, target: Target, shutdown: CancellationToken) -> Cache<PartialObject> {
        if let Some(identities) = self.identities(&target) {
            return identities;
        }
        let cache = Cache::<PartialObject>::new();
        let mut feed = cache.feed_stripped(&IDENTITY, |_| {});
        let api = self.shared.api.clone();
        tokio::spawn(async move {
            reflect(api, target, Selection::all(), Form::Metadata, &mut feed, shutdown).await;
        });
        cache
    }

    fn identities(&self, target: &Target) -> Option<Cache<PartialObject>> {
        let known = self
            .shared
            .identities
            .lock()
            .get(target)
            .map(|identities| identities());
        known.or_else(|| self.shared.beside.as_ref()?.identities(target))
    }

    pub fn api(&self) -> &ApiClient {
        &self.shared.api
    }

    pub fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }
}

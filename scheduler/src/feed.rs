//! From what the server tells about Pods to the core's events, without a cache of the objects in between: the core keeps
//! of a Pod what it needs.
//!
//! Knows list and watch as a [`Sink`] sees them. Must not know what becomes of an event.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use corten_client::decode::{self, Omit};
use corten_client::decoded::Decoded;
use corten_client::reflect::Sink;
use corten_client::{ObjectExt, ObjectKey};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::oneshot;

use crate::core::Event;

/// What says nothing about where a container may run.
static NOT_OF_CONTAINERS: [(&str, Omit); 10] = [
    ("args", Omit::All),
    ("command", Omit::All),
    ("env", Omit::All),
    ("envFrom", Omit::All),
    ("lifecycle", Omit::All),
    ("livenessProbe", Omit::All),
    ("readinessProbe", Omit::All),
    ("securityContext", Omit::All),
    ("startupProbe", Omit::All),
    ("volumeMounts", Omit::All),
];

/// What is not decoded of a Pod: it says nothing about where the Pod may run, and most Pods have or some have much of it.
pub static OMIT: Omit = Omit::Of(&[
    ("metadata", Omit::Of(&[decode::MANAGED_FIELDS])),
    (
        "spec",
        Omit::Of(&[
            ("containers", Omit::Of(&NOT_OF_CONTAINERS)),
            ("ephemeralContainers", Omit::All),
            ("initContainers", Omit::Of(&NOT_OF_CONTAINERS)),
            (
                "volumes",
                Omit::Of(&[
                    ("configMap", Omit::All),
                    ("downwardAPI", Omit::All),
                    ("emptyDir", Omit::All),
                    ("hostPath", Omit::All),
                    ("projected", Omit::All),
                    ("secret", Omit::All),
                ]),
            ),
        ]),
    ),
    (
        "status",
        Omit::Of(&[
            ("containerStatuses", Omit::All),
            ("ephemeralContainerStatuses", Omit::All),
            ("initContainerStatuses", Omit::All),
        ]),
    ),
]);

/// Tells of every Pod that is there, changed or gone.
pub struct PodFeed<F> {
    tell: F,
    /// Where somebody else may have decoded the Pod of an event.
    decoded: Option<Arc<Decoded<Pod>>>,
    /// The uid of every Pod told of and not yet told gone.
    known: HashMap<ObjectKey, Arc<str>>,
    /// While a list runs: Pods it has not mentioned yet.
    unseen: Option<HashSet<ObjectKey>>,
    listed: Option<oneshot::Sender<()>>,
}

impl<F: Fn(Event)> PodFeed<F> {
    /// The receiver hears when the first list is complete.
    pub fn new(decoded: Option<Arc<Decoded<Pod>>>, tell: F) -> (Self, oneshot::Receiver<()>) {
        let (listed, first_list) = oneshot::channel();
        let feed = PodFeed {
            tell,
            decoded,
            known: HashMap::new(),
            unseen: None,
            listed: Some(listed),
        };
        (feed, first_list)
    }

    fn event(&self, text: &str) -> Result<Arc<Pod>, serde_json::Error> {
        match &self.decoded {
            Some(decoded) => decoded.object(text),
            None => decode::object(text, &OMIT).map(Arc::new),
        }
    }

    fn see(&mut self, pod: Arc<Pod>) {
        let key = ObjectKey::of(&pod.metadata);
        let uid: Arc<str> = pod.metadata.uid.as_deref().unwrap_or_default().into();
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&key);
        }
        // Another Pod of the same name: the first one's end was missed.
        if let Some(before) = self.known.insert(key, uid.clone())
            && before != uid
        {
            (self.tell)(Event::PodDeleted(named_by(&before)));
        }
        (self.tell)(Event::Pod(pod));
    }

    fn forget(&mut self, key: &ObjectKey) {
        if let Some(uid) = self.known.remove(key) {
            (self.tell)(Event::PodDeleted(named_by(&uid)));
        }
    }
}

/// A Pod of which only the uid is known.
fn named_by(uid: &str) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_owned());
    Arc::new(pod)
}

impl<F: Fn(Event) + Send> Sink for PodFeed<F> {
    fn list_begin(&mut self) {
        self.unseen = Some(self.known.keys().cloned().collect());
    }

    fn list_item(&mut self, object: &str) -> Result<(), serde_json::Error> {
        self.see(Arc::new(decode::object(object, &OMIT)?));
        Ok(())
    }

    fn list_end(&mut self, _: u64) {
        for key in self.unseen.take().unwrap_or_default() {
            self.forget(&key);
        }
        if let Some(listed) = self.listed.take() {
            // Nobody waits any more: the scheduler is shutting down.
            let _ = listed.send(());
        }
    }

    fn apply(&mut self, object: &str) -> Result<u64, serde_json::Error> {
        let pod = self.event(object)?;
        let revision = pod.revision();
        self.see(pod);
        Ok(revision)
    }

    fn delete(&mut self, object: &str) -> Result<u64, serde_json::Error> {
        let pod = self.event(object)?;
        self.forget(&ObjectKey::of(&pod.metadata));
        Ok(pod.revision())
    }

    fn bookmark(&mut self, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn raw(name: &str, uid: &str) -> String {
        format!(r#"{{"metadata":{{"namespace":"a","name":"{name}","uid":"{uid}"}}}}"#)
    }

    #[test]
    fn every_pod_comes_and_goes_once() {
        let heard = RefCell::new(Vec::new());
        let uid = |pod: &Pod| pod.metadata.uid.clone().expect("a uid");
        let (mut feed, mut listed) = PodFeed::new(None, |event| {
            heard.borrow_mut().push(match event {
                Event::Pod(pod) => format!("+{}", uid(&pod)),
                Event::PodDeleted(pod) => format!("-{}", uid(&pod)),
                other => panic!("{other:?}"),
            });
        });
        let expect = |want: &str| {
            let mut got = std::mem::take(&mut *heard.borrow_mut());
            got.sort();
            assert_eq!(got.join(" "), want);
        };
        // `RefCell` makes the feed no `Sink` that can be sent, so its parts are called.
        let parse = |text: String| Arc::new(serde_json::from_str::<Pod>(&text).expect("a Pod"));
        feed.see(parse(raw("p", "1")));
        feed.see(parse(raw("q", "2")));
        expect("+1 +2");
        feed.see(parse(raw("p", "1")));
        expect("+1");
        feed.see(parse(raw("p", "3")));
        expect("+3 -1");
        feed.forget(&ObjectKey::new("a", "q"));
        feed.forget(&ObjectKey::new("a", "q"));
        expect("-2");
        assert!(listed.try_recv().is_err());
    }

    #[test]
    fn a_list_tells_of_those_that_are_gone() {
        let heard = std::sync::Mutex::new(Vec::new());
        let (mut feed, mut listed) = PodFeed::new(None, |event| {
            if let Event::PodDeleted(pod) = event {
                heard.lock().expect("no panic").push(pod.metadata.uid.clone());
            }
        });
        feed.apply(&raw("p", "1")).expect("a Pod");
        feed.apply(&raw("q", "2")).expect("a Pod");
        feed.list_begin();
        feed.list_item(&raw("q", "2")).expect("a Pod");
        feed.list_end(9);
        assert_eq!(*heard.lock().expect("no panic"), [Some("1".to_owned())]);
        assert!(listed.try_recv().is_ok());
    }
}

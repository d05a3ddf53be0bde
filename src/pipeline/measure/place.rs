//! [`Places`]: every tenant and service that counts go to, named once.

use std::collections::HashMap;
use std::sync::Arc;

use super::series::{Scope, service_text};
use crate::pipeline::limits::SERIES_PER_TRANSACTION_MAX;
use crate::pipeline::record::TenantId;

/// A tenant and a service, by number. Holds until its [`Places`] are trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u32);

impl Place {
    /// Its number; numbers are given out one after another from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit")
    }
}

/// Tenants and services seen, so that a record's are looked up once for all that is counted. They
/// are kept from one transaction to the next: the same ones come again.
#[derive(Debug, Default)]
pub struct Places {
    /// Each text is compared once, whatever it comes with, and stays in the processor's cache.
    tenants: HashMap<TenantId, u32>,
    services: HashMap<Arc<str>, u32>,
    /// By the numbers of tenant and service.
    places: HashMap<(Option<u32>, u32), Place>,
    names: Vec<Names>,
}

/// What a place is called.
#[derive(Debug)]
struct Names {
    tenant: Option<TenantId>,
    label: Arc<str>,
    service: Arc<str>,
}

impl Places {
    /// The place of a tenant and a service; no service is the empty one.
    ///
    /// # Panics
    /// After 2^32 places without a [trim](Places::trim).
    pub fn of(&mut self, tenant: Option<&TenantId>, service: Option<&str>) -> Place {
        let service = service.unwrap_or_default();
        let known = self.services.get(service).and_then(|&service| {
            let tenant = match tenant {
                Some(tenant) => Some(*self.tenants.get(tenant)?),
                None => None,
            };
            self.places.get(&(tenant, service)).copied()
        });
        known.unwrap_or_else(|| self.add(tenant, service))
    }

    /// All places in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.names.len()).map(|index| Place(u32::try_from(index).expect("numbered in add")))
    }

    /// The tenant of a place.
    #[must_use]
    pub fn tenant(&self, place: Place) -> Option<&TenantId> {
        self.names[place.index()].tenant.as_ref()
    }

    /// The tenant label of a place ([`Scope::label`]).
    #[must_use]
    pub fn label(&self, place: Place) -> &Arc<str> {
        &self.names[place.index()].label
    }

    /// The service of a place, as series and labels name it ([`service_text`]).
    #[must_use]
    pub fn service(&self, place: Place) -> &Arc<str> {
        &self.names[place.index()].service
    }

    /// Forgets all places when they have become too many. Only when nothing is counted under any.
    pub fn trim(&mut self) {
        if self.names.len() > SERIES_PER_TRANSACTION_MAX {
            *self = Self::default();
        }
    }

    fn add(&mut self, tenant: Option<&TenantId>, service: &str) -> Place {
        let next = |len: usize| u32::try_from(len).expect("places are trimmed long before");
        let place = Place(next(self.names.len()));
        let known = self.services.get_key_value(service).map(|(name, _)| Arc::clone(name));
        let service = known.unwrap_or_else(|| Arc::from(service));
        let number = next(self.services.len());
        let service_number = *self.services.entry(Arc::clone(&service)).or_insert(number);
        let number = next(self.tenants.len());
        let tenant_number =
            tenant.map(|tenant| *self.tenants.entry(tenant.clone()).or_insert(number));
        self.places.insert((tenant_number, service_number), place);
        let text = service_text(Some(&service));
        let scope = Scope::of(tenant);
        self.names.push(Names {
            tenant: tenant.cloned(),
            label: shared(tenant.map(TenantId::text), &scope.label()),
            service: shared(Some(&service), &text),
        });
        place
    }
}

/// `text`, without a copy where it is the name itself.
fn shared(name: Option<&Arc<str>>, text: &str) -> Arc<str> {
    name.filter(|name| ***name == *text).map_or_else(|| Arc::from(text), Arc::clone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::limits::SERVICE_BYTES_MAX;

    #[test]
    fn a_place_is_a_tenant_and_a_service() {
        let [a, b] = ["a", "b"].map(|id| TenantId::new(id).unwrap());
        let mut places = Places::default();
        let mut seen = Vec::new();
        for tenant in [Some(&a), Some(&b), None] {
            for service in ["x", "y", ""] {
                let place = places.of(tenant, Some(service));
                assert!(!seen.contains(&place));
                seen.push(place);
                assert_eq!(places.of(tenant, Some(service)), place);
                assert_eq!((places.tenant(place), &**places.service(place)), (tenant, service));
            }
        }
        assert_eq!(places.of(None, None), places.of(None, Some("")));
        places.trim();
        assert_eq!(places.of(Some(&a), Some("x")), seen[0]);
    }

    #[test]
    fn names_do_not_pose_as_reserved_ones() {
        let other = TenantId::new("_other").unwrap();
        let mut places = Places::default();
        let place = places.of(Some(&other), Some("_all"));
        assert_eq!((&**places.label(place), &**places.service(place)), ("__other", "__all"));
        let place = places.of(None, Some(&"x".repeat(SERVICE_BYTES_MAX + 1)));
        assert_eq!((&**places.label(place), &**places.service(place)), ("", "_other"));
    }

    #[test]
    fn too_many_places_are_forgotten() {
        let mut places = Places::default();
        for index in 0..=SERIES_PER_TRANSACTION_MAX {
            places.of(None, Some(&index.to_string()));
        }
        places.trim();
        assert_eq!(places.of(None, Some("again")).index(), 0);
    }
}

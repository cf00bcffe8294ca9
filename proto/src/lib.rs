//! Wire formats: the parts of CRI v1 and of containerd's own API that Corten calls, our node tunnel, and what members
//! of the store say to each other.
//!
//! Knows message layouts. Must not know what any caller does with them. The `.proto` files in `protos/` name
//! only the messages and fields in use; numbers are the upstream ones, and unknown fields are skipped.

pub mod tunnel;

/// Kubernetes' container runtime interface, `runtime.v1`.
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// Between members of the store.
pub mod peers {
    tonic::include_proto!("corten.store.v1");
}

/// containerd's own services. Each call names its namespace in the metadata key `containerd-namespace`.
pub mod containerd {
    pub mod services {
        pub mod content {
            pub mod v1 {
                tonic::include_proto!("containerd.services.content.v1");
            }
        }
        pub mod events {
            pub mod v1 {
                tonic::include_proto!("containerd.services.events.v1");
            }
        }
        pub mod images {
            pub mod v1 {
                tonic::include_proto!("containerd.services.images.v1");
            }
        }
        pub mod leases {
            pub mod v1 {
                tonic::include_proto!("containerd.services.leases.v1");
            }
        }
    }
    pub mod types {
        tonic::include_proto!("containerd.types");
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Field numbers against bytes written out by hand from the published protocol.
    #[track_caller]
    fn check(message: &impl prost::Message, bytes: &[u8]) {
        assert_eq!(message.encode_to_vec(), bytes);
    }

    #[test]
    fn field_numbers_are_the_published_ones() {
        let attach = cri::AttachRequest {
            container_id: "c".into(),
            stdin: true,
            tty: true,
            ..Default::default()
        };
        check(&attach, &[0x0a, 1, b'c', 0x10, 1, 0x18, 1]);
        let exec = cri::ExecRequest {
            container_id: "c".into(),
            tty: true,
            stderr: true,
            ..Default::default()
        };
        check(&exec, &[0x0a, 1, b'c', 0x18, 1, 0x30, 1]);
        let context = cri::LinuxContainerSecurityContext {
            no_new_privs: true,
            ..Default::default()
        };
        check(&context, &[0x58, 1]);
        let spec = cri::ImageSpec {
            user_specified_image: "i".into(),
            ..Default::default()
        };
        check(&spec, &[0x92, 1, 1, b'i']);
        let write = containerd::services::content::v1::WriteContentRequest {
            action: 2,
            data: bytes_of(b"x"),
            ..Default::default()
        };
        check(&write, &[0x08, 2, 0x32, 1, b'x']);
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let bytes = [0x0a, 1, b'u', 0xf2, 0x3f, 1, b'?']; // field 1 and an unknown field 1022
        assert_eq!(cri::StreamingResponse::decode(&bytes[..]).unwrap().url, "u");
    }

    fn bytes_of<T: From<&'static [u8]>>(bytes: &'static [u8]) -> T {
        T::from(bytes)
    }
}

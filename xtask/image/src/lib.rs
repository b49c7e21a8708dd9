//! Writes container images as archives, without a daemon or a registry.
//!
//! [`Layer`] is a tar file in which equal contents are equal bytes, [`Image`] an archive of layers that `ctr images
//! import`, `skopeo copy oci-archive:…`, `podman load` and `docker load` take. [`gadgetd()`] is the project's own image;
//! the images that the tests run are made with the same two.
//!
//! ```
//! use gadgetd_image::{Image, Layer};
//!
//! # fn main() -> anyhow::Result<()> {
//! let folder = tempfile::tempdir()?;
//! let layer = folder.path().join("layer.tar");
//! let mut files = Layer::create(&layer)?;
//! files.file("etc/motd", 0o644, b"hello\n")?;
//! files.finish()?;
//!
//! let image = Image::new("docker.io/library/hello:1", serde_json::json!({ "Cmd": ["/hello"] }));
//! image.layer(&layer).write(&folder.path().join("hello.tar"))?;
//! # Ok(())
//! # }
//! ```

mod archive;
mod gadgetd;
mod layer;

pub use archive::{Image, write_index};
pub use gadgetd::{PACKAGES, REPOSITORY, gadgetd, image, reference, rootfs, rootfs_from};
pub use layer::Layer;

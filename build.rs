//! Link arguments of the shared library: its soname (docs/abi.md promises one ABI per soname) and
//! `-z nodelete`, because threads and thread-local destructors of a Rust library must not outlive its code.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libboxlite_images.so.0");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

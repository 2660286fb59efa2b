//! Sets the name under which programs load the library: that of FreeBSD's (`SHLIB_MAJOR` in FreeBSD
//! `lib/libkvm/Makefile`). FreeBSD's libkvm has no symbol versions.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libkvm.so.7");
    println!("cargo::rerun-if-changed=build.rs");
}

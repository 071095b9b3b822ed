// swift-tools-version:5.10
import PackageDescription

let package = Package(
  name: "boxlite-images",
  platforms: [.macOS(.v13)],
  products: [.library(name: "BoxliteImages", targets: ["BoxliteImages"])],
  targets: [
    // The installed library, as pkg-config knows it.
    .systemLibrary(name: "CBoxliteImages", pkgConfig: "boxlite_images"),
    .target(
      name: "BoxliteImages", dependencies: ["CBoxliteImages"],
      swiftSettings: [.enableExperimentalFeature("StrictConcurrency")]),
    .testTarget(name: "BoxliteImagesTests", dependencies: ["BoxliteImages", "CBoxliteImages"]),
  ]
)

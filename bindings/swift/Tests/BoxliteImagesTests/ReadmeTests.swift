import Foundation
import XCTest

// What the README quotes, and docs/languages.md.
import BoxliteImages

func makeRootfs(_ store: String, _ reference: String, _ destination: String) async throws {
  let storage = try Storage(at: store)
  let image = try await storage.pull(reference)  // verified, unpacked, named
  try await storage.assembleRootfs(image, at: destination)
}

func storeLayer(_ directory: String, _ digest: String, _ data: [UInt8]) async throws {
  let storage = try Storage(at: directory)
  let staged = try storage.stageLayer(digest, size: Int64(data.count))
  try staged.write(data)  // as often as bytes arrive
  try await staged.commit()  // verified, synced, visible
  try await storage.extractLayer(digest)
  print(try storage.layerExtractedPath(digest))
}

func pull(_ storage: Storage) async throws -> Image {
  let pull = try storage.startPull("debian:12")
  for await progress in pull.progress { print(progress.bytesFetched) }
  let image = try await pull.image
  return image
}

func openIfThere(_ storage: Storage) throws {
  do {
    _ = try storage.openImage("debian:12")
  } catch let error as BoxliteError where error.status == .notFound {
    print(error.message)
  }
}

final class ReadmeTests: XCTestCase {
  func testReadme() async throws {
    let source = try String(contentsOfFile: #filePath, encoding: .utf8)
    let root = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../../..").standardized.path
    let pages = ["README.md", "docs/languages.md"].compactMap { try? String(contentsOfFile: "\(root)/\($0)", encoding: .utf8) }
    guard pages.count == 2 else { throw XCTSkip("the pages are not beside the package") }
    let quoted = pages.joined().components(separatedBy: "```swift\n").dropFirst().map { $0.components(separatedBy: "```")[0] }
    XCTAssertEqual(quoted.count, 4)
    let plain = source.replacingOccurrences(of: "\n  ", with: "\n")
    for block in quoted {
      XCTAssertTrue(source.contains(block) || plain.contains(block), "a page quotes something else: \(block)")
    }
    // An empty tar archive.
    let digest = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    try await storeLayer(folder(self), digest, [UInt8](repeating: 0, count: 1024))
    await wants(.invalidArgument) { try await makeRootfs(folder(self), "not a reference", folder(self) + "/root") }
    await wants(.digestMismatch) { try await storeLayer(folder(self), digest, [1, 2, 3]) }
  }
}

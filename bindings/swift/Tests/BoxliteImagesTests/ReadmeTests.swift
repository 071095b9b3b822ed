import Foundation
import XCTest

// What the README quotes.
import BoxliteImages

func storeLayer(_ directory: String, _ digest: String, _ data: [UInt8]) async throws {
  let storage = try Storage(directory)
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

final class ReadmeTests: XCTestCase {
  func testReadme() async throws {
    let source = try String(contentsOfFile: #filePath, encoding: .utf8)
    let path = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../../../README.md").standardized.path
    guard let readme = try? String(contentsOfFile: path, encoding: .utf8) else { throw XCTSkip("the README is not beside the package") }
    let quoted = readme.components(separatedBy: "```swift\n").dropFirst().map { $0.components(separatedBy: "```")[0] }
    XCTAssertEqual(quoted.count, 2)
    let plain = source.replacingOccurrences(of: "\n  ", with: "\n")
    for block in quoted {
      XCTAssertTrue(source.contains(block) || plain.contains(block), "the README quotes something else: \(block)")
    }
    // An empty tar archive.
    let digest = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    try await storeLayer(folder(self), digest, [UInt8](repeating: 0, count: 1024))
    await wants(.digestMismatch) { try await storeLayer(folder(self), digest, [1, 2, 3]) }
  }
}

import Foundation
import XCTest

// What the README quotes.
import BoxliteImages

func storeLayer(_ directory: String, _ digest: String, _ data: [UInt8]) async throws {
  let storage = try Storage(directory)
  let staged = try storage.stageLayer(digest, size: Int64(data.count))
  try staged.write(data)  // as often as bytes arrive
  try staged.commit()  // verified, synced, visible
  try await storage.extractLayer(digest)
  print(try storage.layerExtractedPath(digest))
}

final class ReadmeTests: XCTestCase {
  func testReadme() async throws {
    let source = try String(contentsOfFile: #filePath, encoding: .utf8)
    let path = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../../../README.md").standardized.path
    guard let readme = try? String(contentsOfFile: path, encoding: .utf8) else { throw XCTSkip("the README is not beside the package") }
    let quoted = readme.components(separatedBy: "```swift\n").dropFirst().first?.components(separatedBy: "```").first ?? ""
    XCTAssertFalse(quoted.isEmpty)
    XCTAssertTrue(source.contains(quoted), "the README quotes something else")
    // An empty tar archive.
    let digest = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    try await storeLayer(folder(self), digest, [UInt8](repeating: 0, count: 1024))
    await wants(.digestMismatch) { try await storeLayer(folder(self), digest, [1, 2, 3]) }
  }
}

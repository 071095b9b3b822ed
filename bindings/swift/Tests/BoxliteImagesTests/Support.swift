import BoxliteImages
import Foundation
import XCTest

/// A layout of a small image, as `make-layout` makes it: four layers, of which the third has a whiteout.
struct Layout {
  let path: String
  let manifest: String
  let config: String
  let layers: [String]

  /// Skips the test where there is none: `tests/swift.sh` makes it.
  init() throws {
    path = try require("BL_TEST_LAYOUT")
    let index = try Self.json(path + "/index.json")
    manifest = (index["manifests"] as! [[String: Any]])[0]["digest"] as! String
    let document = try Self.json(Self.blob(path, manifest))
    config = (document["config"] as! [String: Any])["digest"] as! String
    layers = (document["layers"] as! [[String: Any]]).map { $0["digest"] as! String }
  }

  func read(_ digest: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: Self.blob(path, digest))))
  }

  private static func blob(_ path: String, _ digest: String) -> String {
    path + "/blobs/" + digest.replacingOccurrences(of: ":", with: "/")
  }

  private static func json(_ path: String) throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path))) as! [String: Any]
  }
}

func require(_ variable: String) throws -> String {
  guard let value = ProcessInfo.processInfo.environment[variable], !value.isEmpty else { throw XCTSkip("\(variable) is not set") }
  return value
}

/// A folder of the test's own, which goes with it.
func folder(_ test: XCTestCase) -> String {
  let path = NSTemporaryDirectory() + "/boxlite-\(UUID().uuidString)"
  try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  test.addTeardownBlock { try? FileManager.default.removeItem(atPath: path) }
  return path
}

func store(_ test: XCTestCase) throws -> Storage { try Storage(at: folder(test) + "/store") }

/// What is thrown, which must have the status.
@discardableResult
func wants(_ status: Status, line: UInt = #line, _ body: () throws -> Void) -> BoxliteError? {
  do {
    try body()
    XCTFail("nothing is thrown", line: line)
  } catch let error as BoxliteError {
    XCTAssertEqual(error.status, status, error.message, line: line)
    return error
  } catch {
    XCTFail("\(error)", line: line)
  }
  return nil
}

@discardableResult
func wants(_ status: Status, line: UInt = #line, _ body: () async throws -> Void) async -> BoxliteError? {
  do {
    try await body()
    XCTFail("nothing is thrown", line: line)
  } catch let error as BoxliteError {
    XCTAssertEqual(error.status, status, error.message, line: line)
    return error
  } catch {
    XCTFail("\(error)", line: line)
  }
  return nil
}

/// A closure's own error.
struct Mine: Error, Equatable {}

/// A value that closures of several threads set.
final class Box<T>: @unchecked Sendable {
  private let lock = NSLock()
  private var inner: T
  init(_ value: T) { inner = value }
  var value: T { lock.withLock { inner } }
  func change(_ body: (inout T) -> Void) { lock.withLock { body(&inner) } }
}

import BoxliteImages
import Foundation
import XCTest

/// With the registry that `tests/swift.sh` runs, which has the layout's image as `team/x:1`.
final class PullTests: XCTestCase {
  private func options(_ host: String) -> PullOptions {
    var options = PullOptions()
    var registry = RegistryOptions(host: host)
    registry.isPlainHTTP = true
    registry.headers = ["X-A: b"]
    options.registries = [registry]
    options.progressInterval = .milliseconds(1)
    return options
  }

  func testPull() async throws {
    let (store, layout, host) = (try store(self), try Layout(), try require("BL_TEST_REGISTRY"))
    let asked = Box(""), last = Box<PullProgress?>(nil)
    let image = try await store.pull(
      "\(host)/team/x:1", options: options(host),
      credentials: { host, repository in
        asked.change { $0 = "\(host) \(repository)" }
        return nil
      }, progress: { progress in last.change { $0 = progress } })
    XCTAssertEqual(image.manifestDigest, layout.manifest)
    XCTAssertEqual(asked.value, "\(host) team/x")
    XCTAssertEqual(last.value?.phase, .done)
    XCTAssertEqual(last.value?.layers.map(\.digest), layout.layers)
    XCTAssertEqual(last.value?.layers.allSatisfy { $0.isDone && $0.bytesStored == $0.bytes }, true)

    var always = options(host)
    always.policy = .always
    let blocking = try Self.blocking(store, "\(host)/team/x:1", always)
    XCTAssertEqual(blocking.manifestDigest, layout.manifest)
    let missing = await wants(.notFound) { _ = try await store.pull("\(host)/team/x:none", options: options(host)) }
    XCTAssertEqual(missing?.httpStatus, 404)
    XCTAssertEqual(missing?.registryCode, "MANIFEST_UNKNOWN")
    let error = await wants(.callback) {
      _ = try await store.pull("\(host)/team/x:1", options: always, credentials: { _, _ in throw Mine() })
    }
    XCTAssertEqual(error?.underlying as? Mine, Mine())
    let told = await wants(.callback) {
      _ = try await store.pull("\(host)/team/x:1", options: always, progress: { _ in throw Mine() })
    }
    XCTAssertEqual(told?.underlying as? Mine, Mine())
    let zero = await wants(.callback) {
      _ = try await store.pull("\(host)/team/x:1", options: always, credentials: { _, _ in Credentials(user: "\0", password: "") })
    }
    XCTAssertEqual((zero?.underlying as? BoxliteError)?.status, .invalidArgument)
    var never = options(host)
    never.policy = .never
    await wants(.notFound) { _ = try await store.pull("\(host)/team/y:1", options: never) }
    await wants(.invalidArgument) { _ = try await store.pull("A B") }
  }

  private static func blocking(_ store: Storage, _ reference: String, _ options: PullOptions) throws -> Image {
    try store.pull(reference, options: options)
  }

  func testOperation() async throws {
    let (store, layout, host) = (try store(self), try Layout(), try require("BL_TEST_REGISTRY"))
    let pull = try store.startPull("\(host)/team/x:1", options: options(host))
    var seen: [PullProgress] = []
    for await progress in pull.progress { seen.append(progress) }
    XCTAssertGreaterThanOrEqual(seen.count, 2)
    XCTAssertEqual(seen.last?.phase, .done)
    XCTAssertEqual(seen.last?.layersDone, 4)
    async let first = pull.image, second = pull.image
    let both = try await [first, second]
    XCTAssertEqual(both.map(\.manifestDigest), [layout.manifest, layout.manifest])
    for await progress in pull.progress { XCTAssertEqual(progress.phase, .done) }
    pull.cancel()
    pull.close()
    wants(.state) { _ = try pull.currentProgress() }
    for await _ in pull.progress { XCTFail("progress of what is closed") }
    let again = try await pull.image
    XCTAssertEqual(again.manifestDigest, layout.manifest)
  }

  /// A server that takes connections and says nothing.
  private func silent() throws -> String {
    #if os(Linux)
      let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      let listener = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let port: UInt16 = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        XCTAssertEqual(bind(listener, $0, length), 0)
        XCTAssertEqual(listen(listener, 50), 0)
        XCTAssertEqual(getsockname(listener, $0, &length), 0)
      }
      return UInt16(bigEndian: $0.pointee.sin_port)
    }
    addTeardownBlock { _ = Foundation.close(listener) }
    return "127.0.0.1:\(port)"
  }

  /// More calls than there are threads for tasks: the others go on, and each can be cancelled.
  func testManyPulls() async throws {
    let (store, host) = (try store(self), try silent())
    let options = options(host)
    let pulls = (0..<24).map { number in Task { try await store.pull("\(host)/x\(number)", options: options) } }
    let started = ContinuousClock.now
    for _ in 0..<10 { try await Task.sleep(for: .milliseconds(10)) }
    XCTAssertLessThan(ContinuousClock.now - started, .seconds(5))
    pulls.forEach { $0.cancel() }
    for pull in pulls {
      do {
        _ = try await pull.value
        XCTFail("it is not cancelled")
      } catch is CancellationError {}
    }
    XCTAssertLessThan(ContinuousClock.now - started, .seconds(10))
  }

  func testSecretsAreNotPrinted() async throws {
    var options = PullOptions()
    options.credentials = Credentials(user: "me", password: "hunter2")
    var text = ""
    dump(options, to: &text)
    XCTAssertFalse("\(options) \(text)".contains("hunter2"))
    options.credentials?.password = "hunter2\0"
    let store = try store(self)
    let error = await wants(.invalidArgument) { [options] in _ = try await store.pull("localhost:1/x", options: options) }
    XCTAssertFalse(error?.message.contains("hunter2") ?? true)
    XCTAssertEqual(error?.localizedDescription, error?.message)
  }

  func testCancelling() async throws {
    let (store, host) = (try store(self), try silent())
    let options = options(host)
    let started = ContinuousClock.now
    let task = Task { try await store.pull("\(host)/x", options: options) }
    try await Task.sleep(for: .milliseconds(50))
    task.cancel()
    do {
      _ = try await task.value
      XCTFail("it is not cancelled")
    } catch is CancellationError {}

    let pull = try store.startPull("\(host)/x", options: options)
    let waiting = Task { try await pull.image }
    let watching = Task { for await _ in pull.progress {} }
    try await Task.sleep(for: .milliseconds(50))
    watching.cancel()
    await watching.value
    XCTAssertNotEqual(try pull.currentProgress().phase, .done)
    waiting.cancel()
    do {
      _ = try await waiting.value
      XCTFail("it is not cancelled")
    } catch is CancellationError {}

    let stopped = try store.startPull("\(host)/x", options: options)
    stopped.cancel()
    await wants(.cancelled) { _ = try await stopped.image }
    let closed = try store.startPull("\(host)/x", options: options)
    let ended = Task { for await _ in closed.progress {} }
    closed.close()
    await ended.value
    wants(.state) { _ = try closed.currentProgress() }
    // Nothing refers to it: it ends.
    _ = try store.startPull("\(host)/x", options: options)
    var timed = options
    timed.timeout = .milliseconds(50)
    await wants(.timeout) { _ = try await store.pull("\(host)/x", options: timed) }
    XCTAssertLessThan(ContinuousClock.now - started, .seconds(20))
    // Whoever waits for what is closed is told that it was cancelled.
    let watched = try store.startPull("\(host)/x", options: options)
    let outcome = Task { await wants(.cancelled) { _ = try await watched.image } }
    try await Task.sleep(for: .milliseconds(50))
    watched.close()
    _ = await outcome.value
    let late = Task { try await store.pull("\(host)/x", options: options) }
    late.cancel()
    do {
      _ = try await late.value
      XCTFail("it is not cancelled")
    } catch is CancellationError {}
    try Library.shutdown(timeout: .seconds(10))
  }
}

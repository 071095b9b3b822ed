import BoxliteImages
import Foundation
import XCTest

final class StoreTests: XCTestCase {
  func testVersion() {
    XCTAssertTrue(Library.versionString.hasPrefix("0."))
    XCTAssertGreaterThanOrEqual(Library.versionNumber, 1000)
    XCTAssertTrue(Library.has(.pull))
    XCTAssertEqual(Status.notFound.description, "NOT_FOUND")
    XCTAssertEqual(Status(rawValue: -999).description, "UNKNOWN")
  }

  func testStaged() throws {
    let (store, layout) = (try store(self), try Layout())
    let (digest, data) = (layout.layers[0], try layout.read(layout.layers[0]))
    let staged = try store.stageLayer(digest, size: Int64(data.count))
    try staged.write(data[..<10])
    try staged.write(Data(data[10..<20]))
    try data[20...].withUnsafeBytes { try staged.write($0) }
    try staged.write([])
    XCTAssertEqual(staged.bytesWritten, UInt64(data.count))
    XCTAssertFalse(try store.hasLayer(digest))
    XCTAssertTrue(FileManager.default.fileExists(atPath: try staged.path()))
    try staged.commit()
    XCTAssertTrue(try store.hasLayer(digest))
    XCTAssertEqual(try staged.finalPath(), try store.layerTarballPath(digest))
    wants(.state) { try staged.write(data) }
    wants(.state) { try staged.abort() }
    try store.verifyLayer(digest)
    XCTAssertTrue(try store.verifyBlobsExist([digest]))
    XCTAssertFalse(try store.verifyBlobsExist([digest, layout.layers[1]]))
    XCTAssertTrue(try store.verifyBlobsExist([]))

    let wrong = try store.stageLayer(layout.layers[1])
    try wrong.write(data.lazy.map { $0 })
    let error = wants(.digestMismatch) { try wrong.commit() }
    XCTAssertEqual(error?.expectedDigest, layout.layers[1])
    XCTAssertEqual(error?.actualDigest, digest)
    XCTAssertEqual(error?.isRetryable, false)
    wants(.sizeMismatch) { try store.stageLayer(layout.layers[1], size: 3).write(data) }
    wants(.invalidArgument) { _ = try store.stageLayer("sha256:../../etc") }
    let usage = try store.diskUsage()
    XCTAssertEqual(usage.layers, 1)
    XCTAssertEqual(usage.layerBytes, UInt64(data.count))
    XCTAssertEqual(usage.partials, 0)
  }

  func testDocuments() throws {
    let (store, layout) = (try store(self), try Layout())
    let manifest = try layout.read(layout.manifest)
    XCTAssertFalse(try store.hasManifest(layout.manifest))
    wants(.notFound) { _ = try store.loadManifest(layout.manifest) }
    try store.saveManifest(layout.manifest, manifest)
    XCTAssertTrue(try store.hasManifest(layout.manifest))
    XCTAssertEqual(try store.loadManifest(layout.manifest), manifest)
    XCTAssertTrue(try store.manifestPath(layout.manifest).hasPrefix(try store.imagesDirectory()))
    wants(.digestMismatch) { try store.saveManifest(layout.config, manifest) }
    let config = try store.stageConfig(layout.config)
    try config.write(try layout.read(layout.config))
    try config.commit()
    XCTAssertTrue(try store.hasConfig(layout.config))
    XCTAssertEqual(try store.loadConfig(layout.config), try layout.read(layout.config))
    XCTAssertTrue(try store.configPath(layout.config).hasSuffix(".json"))
    XCTAssertTrue(try store.layersDirectory().hasPrefix(try store.imagesDirectory()))
  }

  /// Closed, or with what C would read otherwise: an error, and never a crash.
  func testClosed() throws {
    let (store, layout) = (try store(self), try Layout())
    try store.importImages(from: layout.path, options: named("a.org/x:1"))
    let image = try store.openImage("a.org/x:1")
    let (staged, entries) = (try store.stageConfig(layout.config), try store.layerEntries(layout.layers[0]))
    let lease = try store.createLease(for: .seconds(60))
    for close in [store.close, image.close, staged.close, entries.close, lease.close] {
      close()
      close()
    }
    wants(.state) { _ = try store.images() }
    wants(.state) { _ = try store.extractLayer(layout.layers[0]) }
    wants(.state) { _ = try store.pull("localhost:1/x") }
    wants(.state) { _ = try store.startPull("localhost:1/x") }
    wants(.state) { _ = try image.process(rootfs: "/") }
    wants(.state) { try staged.write([1]) }
    wants(.state) { _ = try entries.next() }
    wants(.state) { try lease.release() }
    XCTAssertEqual(staged.bytesWritten, 0)
    XCTAssertEqual(image.layers.count, 4)
    let other = try self.otherStore()
    wants(.state) { _ = try other.usage(of: image) }
    wants(.state) { _ = try other.assembleRootfs(image, at: folder(self) + "/root") }
    wants(.state) { try other.exportImages([image], to: folder(self) + "/out.tar") }
    wants(.invalidArgument) { try other.exportImages([], to: folder(self) + "/out.tar") }
    for zero in [
      { _ = try Storage(at: "/tmp\0/x") }, { _ = try other.openImage("a\0") }, { _ = try other.hasLayer("\0") },
      { _ = try other.openLease("\0") }, { _ = try other.importImages(from: "/\0") },
    ] as [() throws -> Void] {
      let error = wants(.invalidArgument, zero)
      XCTAssertFalse(error?.message.contains("\0") ?? true)
    }
  }

  /// In a closure of a call with the same object; the call goes on.
  func testClosingInAClosure() throws {
    let (store, layout) = (try store(self), try Layout())
    try store.importImages(from: layout.path, options: named("a.org/x:1")) { _ in store.close() }
    wants(.state) { _ = try store.images() }
  }

  /// Two threads on one list: each entry is one of them's, whole.
  func testListOfTwoThreads() throws {
    let (store, layout) = (try store(self), try Layout())
    try store.importImages(from: layout.path, options: named("a.org/x:1"))
    for _ in 0..<20 {
      let list = try store.layerEntries(layout.layers[0])
      let paths = Box<[String]>([])
      DispatchQueue.concurrentPerform(iterations: 4) { _ in
        while let entry = try? list.next() { paths.change { $0.append(entry.path) } }
      }
      XCTAssertEqual(paths.value.count, Set(paths.value).count)
      XCTAssertTrue(Set(paths.value).isSuperset(of: ["bin/hello", "usr/share/doc/hello", "bin/hello2"]), "\(paths.value)")
    }
  }

  private func otherStore() throws -> Storage { try store(self) }

  func testOptions() throws {
    let path = folder(self) + "/store"
    var options = StorageOptions()
    options.isReadOnly = true
    wants(.notFound) { _ = try Storage(at: path, options: options) }
    _ = try Storage(at: path)
    wants(.permission) { _ = try Storage(at: path, options: options).createLease(for: .seconds(1)) }
    options = StorageOptions()
    options.maxBlobBytes = 5
    options.isDurable = false
    options.isSingleProcess = true
    options.gcMinAge = .seconds(1)
    wants(.limit) { _ = try Storage(at: path, options: options).stageLayer(try Layout().layers[0], size: 6) }
    options.minFreeBytes = UInt64.max / 2
    wants(.noSpace) { _ = try Storage(at: path, options: options).stageLayer(try Layout().layers[0], size: 5) }
  }

  func testLeasesAndCollection() throws {
    let (store, layout) = (try store(self), try Layout())
    let staged = try store.stageLayer(layout.layers[0])
    try staged.write(try layout.read(layout.layers[0]))
    try staged.commit()
    let lease = try store.createLease(for: .milliseconds(59_999))
    try lease.hold(layout.layers[0])
    var options = GCOptions()
    options.ignoresAge = true
    XCTAssertEqual(try store.collectGarbage(options: options).removed, 0)
    let again = try store.openLease(lease.id)
    try again.extend(for: .seconds(100))
    try again.release()
    wants(.notFound) { try lease.hold(layout.layers[0]) }
    options.isDryRun = true
    var told: [String] = []
    XCTAssertEqual(try store.collectGarbage(options: options) { told.append($0) }.removed, 1)
    XCTAssertTrue(told.first?.hasPrefix("layers/sha256-") ?? false)
    options.isDryRun = false
    let count = Box(0)
    let result = try store.collectGarbage(options: options) { _ in count.change { $0 += 1 } }
    XCTAssertEqual(result.removed, 1)
    XCTAssertEqual(count.value, 1)
    XCTAssertFalse(try store.hasLayer(layout.layers[0]))
  }

  func testCheck() throws {
    let (store, layout) = (try store(self), try Layout())
    try store.importImages(from: layout.path, options: named("a.org/x:1"))
    let sound = try store.check()
    XCTAssertEqual(sound.damaged + sound.missing, 0)
    XCTAssertGreaterThan(sound.objects, 5)
    let blob = try FileHandle(forWritingTo: URL(fileURLWithPath: try store.layerTarballPath(layout.layers[1])))
    try blob.seek(toOffset: 20)
    blob.write(Data([255, 0, 255, 0]))
    try blob.close()
    var found: [Finding] = []
    var options = CheckOptions()
    options.repairs = true
    let result = try store.check(options: options) { found.append($0) }
    XCTAssertEqual(result.damaged, 1)
    XCTAssertEqual(result.quarantined, 1)
    XCTAssertTrue(found.contains { $0.problem == .damaged && $0.wasQuarantined && $0.object.hasPrefix("layers/") })
    XCTAssertTrue(found.contains { $0.problem == .missing })
  }

  func testLog() throws {
    let lines = Box<[String]>([])
    try Library.setLogHandler(level: .trace) { _, line in lines.change { $0.append(line) } }
    try store(self).importImages(from: try Layout().path, options: named("a.org/x:1"))
    try Library.removeLogHandler()
    let count = lines.value.count
    XCTAssertGreaterThan(count, 0)
    try store(self).importImages(from: try Layout().path, options: named("a.org/x:1"))
    XCTAssertEqual(lines.value.count, count)
  }

  /// Many tasks on few objects, and one that closes them meanwhile.
  func testManyTasks() async throws {
    let (store, layout) = (try store(self), try Layout())
    let data = try layout.read(layout.layers[0])
    await withTaskGroup(of: Void.self) { group in
      for number in 0..<16 {
        group.addTask {
          do {
            for _ in 0..<10 {
              let staged = try store.stageLayer(layout.layers[0], size: Int64(data.count))
              try staged.write(data)
              try await staged.commit()
              try await store.extractLayer(layout.layers[0])
              if number % 4 == 0 { _ = try? await store.collectGarbage() }
            }
          } catch let error as BoxliteError where error.status == .state {
          } catch {
            XCTFail("\(error)")
          }
        }
      }
      group.addTask {
        try? await Task.sleep(for: .milliseconds(30))
        store.close()
      }
    }
    wants(.state) { _ = try store.images() }
  }
}

func named(_ name: String) -> ImportOptions {
  var options = ImportOptions()
  options.name = name
  return options
}

import BoxliteImages
import Foundation
import XCTest

final class ImageTests: XCTestCase {
  func testLayers() throws {
    let (store, layout) = (try store(self), try Layout())
    for digest in layout.layers {
      let staged = try store.stageLayer(digest)
      try staged.write(try layout.read(digest))
      try staged.commit()
    }
    var last: TransferProgress?
    let first = try store.extractLayer(layout.layers[0]) { last = $0 }
    XCTAssertFalse(first.isCached)
    XCTAssertEqual(last?.entries, first.entries)
    XCTAssertEqual(last?.bytesOut, first.bytesOut)
    XCTAssertTrue(first.diffID?.hasPrefix("sha256:") ?? false)
    XCTAssertTrue(first.anomalies.isEmpty)
    XCTAssertTrue(try store.extractLayer(layout.layers[0]).isCached)

    var options = ExtractOptions()
    options.tree.overridesStat = true
    options.diffID = first.diffID
    let other = try store.extractLayer(layout.layers[0], options: options)
    XCTAssertFalse(other.isCached)
    let path = try store.extractedPath(layout.layers[0], tree: options.tree)
    XCTAssertNotEqual(path, try store.layerExtractedPath(layout.layers[0]))
    XCTAssertTrue(FileManager.default.fileExists(atPath: path + "/bin/hello"))

    let error = wants(.callback) { try store.extractLayer(layout.layers[1]) { _ in throw Mine() } }
    XCTAssertEqual(error?.underlying as? Mine, Mine())
    options = ExtractOptions()
    options.tree.limits = LayerLimits()
    options.tree.limits?.entries = 1
    wants(.limit) { try store.extractLayer(layout.layers[1], options: options) }
    options = ExtractOptions()
    options.diffID = layout.layers[0]
    wants(.digestMismatch) { try store.extractLayer(layout.layers[1], options: options) }
    let cancel = try CancelToken()
    cancel.trigger()
    XCTAssertTrue(cancel.isTriggered)
    wants(.cancelled) { try store.extractLayer(layout.layers[1], cancel: cancel) }
    wants(.cancelled) { try store.verifyLayer(layout.layers[1], cancel: cancel) }
    try store.verifyLayer(layout.layers[1])
    options = ExtractOptions()
    options.timeout = .zero
    wants(.timeout) { try store.extractLayer(layout.layers[1], options: options) { _ in usleep(3000) } }

    var entries: [LayerEntry] = []
    let list = try store.layerEntries(layout.layers[0])
    while let entry = try list.next() { entries.append(entry) }
    XCTAssertEqual(entries.first { $0.path == "bin/hi" }?.link, "hello")
    XCTAssertEqual(entries.first { $0.path == "bin/hi" }?.kind, .symlink)
    XCTAssertEqual(entries.first { $0.path == "bin/hello2" }?.kind, .hardlink)
    XCTAssertEqual(entries.first { $0.path == "bin/hello" }?.mode, 0o755)
    try store.extractLayer(layout.layers[1])
    let second = try store.layerEntries(layout.layers[1])
    var found: LayerEntry?
    while let entry = try second.next() { if entry.path == "srv/app/data" { found = entry } }
    XCTAssertEqual(found?.mtimeSeconds, 1_700_000_000)
    XCTAssertEqual(found?.mtimeNanoseconds, 250_000_000)
    XCTAssertEqual(found?.xattrs.first?.name, "user.origin")
    XCTAssertEqual(found?.xattrs.first?.value, Array("demo".utf8))
    wants(.notFound) { _ = try store.layerEntries(layout.layers[3]) }
  }

  func testImages() throws {
    let (store, layout) = (try store(self), try Layout())
    XCTAssertEqual(try store.importImages(from: layout.path, options: named("a.org/x:1")), ["a.org/x:1"])
    XCTAssertEqual(try store.images(), ["a.org/x:1"])
    let image = try store.openImage("a.org/x:1")
    XCTAssertEqual(image.manifestDigest, layout.manifest)
    XCTAssertEqual(image.configDigest, layout.config)
    XCTAssertEqual(image.configJSON.map { Array($0.utf8) }, try layout.read(layout.config))
    XCTAssertEqual(image.layers.map(\.digest), layout.layers)
    XCTAssertEqual(image.cmd, ["/bin/hello"])
    XCTAssertEqual(image.env, ["PATH=/bin"])
    XCTAssertEqual(image.architecture, "amd64")
    XCTAssertEqual(image.missing, [])
    XCTAssertEqual(image.labelList.count, image.labels.count)
    XCTAssertNil(image.indexDigest)
    XCTAssertNotNil(image.layers[1].diffID)
    let usage = try store.usage(of: image)
    XCTAssertGreaterThan(usage.compressedBytes, 0)
    XCTAssertNotNil(usage.taggedSeconds)
    try store.tagImage("a.org/y:2", manifestDigest: layout.manifest)
    XCTAssertEqual(Set(try store.images()), ["a.org/x:1", "a.org/y:2"])
    try store.removeImage("a.org/y:2")
    wants(.notFound) { _ = try store.openImage("a.org/y:2") }

    let work = folder(self)
    var options = RootfsOptions()
    options.mode = .direct
    let made = try store.assembleRootfs(image, at: work + "/root", options: options)
    XCTAssertEqual(made.layers, 4)
    XCTAssertTrue(FileManager.default.fileExists(atPath: work + "/root/usr/share/doc/NEW"))
    XCTAssertFalse(FileManager.default.fileExists(atPath: work + "/root/etc/motd"))
    wants(.exists) { try store.assembleRootfs(image, at: work + "/root") }
    var making = DiskOptions()
    making.format = .erofs
    making.layout = .merged
    making.label = "swift"
    let disk = try store.createDisk(image, at: work + "/disk", options: making)
    XCTAssertEqual([disk.format, disk.fileSystem, disk.path], ["vmdk", "erofs", work + "/disk/disk.vmdk"])
    XCTAssertGreaterThan(disk.parts.count, 1)
    XCTAssertEqual(disk.parts.last.map { $0.offsetBytes + $0.lengthBytes }, disk.sizeBytes)
    wants(.exists) { try store.createDisk(image, at: work + "/disk", options: making) }
    var verified = DiskOptions()
    verified.hasVerity = true
    verified.files = [
      DiskFile(path: "/etc/from-host", content: .data(Array("data".utf8))),
      DiskFile(path: "/etc/link", content: .symlink(to: "from-host")),
      DiskFile(path: "/srv/empty", content: .directory),
    ]
    let withRoot = try store.createDisk(image, at: work + "/verified.img", options: verified)
    XCTAssertEqual(withRoot.rootHash?.count, 64)
    XCTAssertTrue(withRoot.verityTable?.contains(withRoot.rootHash ?? "none") ?? false)
    XCTAssertNil(disk.rootHash)
    verified.files = [DiskFile(path: "../out", content: .directory)]
    wants(.invalidArgument) { try store.createDisk(image, at: work + "/no.img", options: verified) }
    var empty = DiskOptions()
    empty.sizeBytes = 64 << 20
    XCTAssertEqual(try store.formatDisk(at: work + "/empty.img", options: empty).sizeBytes, 64 << 20)
    XCTAssertEqual(try store.formatDisk(at: work + "/upper.img", over: image, options: empty).entries, 0)
    var keeping = DiskOptions()
    keeping.leaseTime = .seconds(60)
    let kept = try store.keepDisk(image, options: keeping)
    XCTAssertFalse(kept.disk.isCached)
    try kept.lease.release()
    XCTAssertTrue(try store.keepDisk(image).disk.isCached)
    XCTAssertEqual(try store.process(of: image).args, ["/bin/hello"])
    let upper = work + "/upper"
    try FileManager.default.createDirectory(atPath: upper, withIntermediateDirectories: true)
    try "changed".write(toFile: upper + "/new", atomically: false, encoding: .utf8)
    var committing = CommitOptions()
    (committing.name, committing.epochSeconds, committing.author) = ("example.org/changed:1", 1_000_000_000, "swift")
    (committing.config.cmd, committing.config.env, committing.config.labels) = ([], ["A=b"], ["c": "d"])
    let committed = try store.commitImage(image, source: .upper(upper), options: committing)
    XCTAssertEqual(committed.entries, 1)
    XCTAssertEqual(committed.image.layers.count, image.layers.count + 1)
    XCTAssertEqual([committed.image.created, committed.image.labels["c"]], ["2001-09-09T01:46:40Z", "d"])
    XCTAssertTrue(committed.image.cmd.isEmpty && committed.image.env.contains("A=b"))
    XCTAssertEqual(
      try store.commitImage(image, source: .upper(upper), options: committing).image.manifestDigest, committed.image.manifestDigest)
    XCTAssertEqual(try store.squashImage(committed.image).image.layers.count, 1)
    XCTAssertEqual(try store.editImage(image, options: committing).image.layers.count, image.layers.count)
    try store.removeImage("example.org/changed:1")
    wants(.notFound) { try store.commitImage(nil, source: .tree(work + "/none")) }
    let process = try image.process(rootfs: work + "/root")
    XCTAssertEqual(process.args, ["/bin/hello"])
    XCTAssertEqual(process.env, ["PATH=/bin"])
    XCTAssertEqual(process.cwd, "/")
    XCTAssertEqual(process.uid, 0)
    XCTAssertTrue(process.runtimeJSON.contains("/bin/hello"))

    var overlay = OverlayOptions()
    overlay.tree.whiteouts = .userOverlay
    overlay.leaseTime = .seconds(60)
    do {
      let made = try store.prepareOverlay(image, options: overlay)
      XCTAssertTrue(made.mountOptions.contains("lowerdir=/"))
      XCTAssertNil(made.mountDirectory)
      XCTAssertEqual(made.lowerDirectories.count, 4)
      try made.lease.release()
    } catch let error as BoxliteError where error.status == .unsupported {
      // The layers have directories without entries of their own.
    }
  }

  func testArchives() throws {
    let (store, layout, work) = (try store(self), try Layout(), folder(self))
    try store.importImages(from: layout.path, options: named("a.org/x:1"))
    let image = try store.openImage("a.org/x:1")
    try store.exportImages([image], to: work + "/x.tar")
    wants(.exists) { try store.exportImages([image], to: work + "/x.tar") }
    _ = FileManager.default.createFile(atPath: work + "/y.tar", contents: nil)
    let out = try FileHandle(forWritingTo: URL(fileURLWithPath: work + "/y.tar"))
    var told = 0
    try store.exportImages([image, image], descriptor: out.fileDescriptor) { _ in told += 1 }
    XCTAssertGreaterThan(told, 0)
    try out.close()

    try store.exportImages(Array(repeating: image, count: 500), to: work + "/many.tar")
    let second = try otherStore()
    XCTAssertEqual(try second.importImages(from: work + "/x.tar"), ["a.org/x:1"])
    let third = try otherStore()
    let input = try FileHandle(forReadingFrom: URL(fileURLWithPath: work + "/y.tar"))
    let names = try third.importImages(descriptor: input.fileDescriptor)
    XCTAssertEqual(names, ["a.org/x:1"])
    XCTAssertEqual(try third.openImage("a.org/x:1").manifestDigest, layout.manifest)
    let error = wants(.callback) { try otherStore().importImages(from: work + "/x.tar") { _ in throw Mine() } }
    XCTAssertEqual(error?.underlying as? Mine, Mine())
    wants(.invalidArgument) { _ = try third.importImages(descriptor: -1) }

    let (bundle, inside) = try third.openBundle(layout.path, options: named("a.org/b:1"))
    XCTAssertEqual(try bundle.openImage(inside[0]).manifestDigest, layout.manifest)
    let folder = try third.localBundleCacheDirectory(layout.path, manifestDigest: layout.manifest)
    XCTAssertEqual(folder.split(separator: "/").dropLast(), try bundle.imagesDirectory().split(separator: "/").dropLast())
  }

  /// What blocks above, for a task.
  func testTasks() async throws {
    let (store, layout, work) = (try store(self), try Layout(), folder(self))
    let count = Box(0)
    try await store.importImages(from: layout.path, options: named("a.org/x:1")) { _ in count.change { $0 += 1 } }
    XCTAssertGreaterThan(count.value, 0)
    let image = try store.openImage("a.org/x:1")
    try await store.verifyLayer(layout.layers[0])
    var options = ExtractOptions()
    options.tree.overridesStat = true
    let made = try await store.extractLayer(layout.layers[0], options: options)
    XCTAssertFalse(made.isCached)
    options.tree.whiteouts = .userOverlay
    let error = await wants(.callback) {
      try await store.extractLayer(layout.layers[0], options: options, progress: { _ in throw Mine() })
    }
    XCTAssertEqual(error?.underlying as? Mine, Mine())
    try await store.exportImages([image], to: work + "/x.tar")
    let input = try FileHandle(forReadingFrom: URL(fileURLWithPath: work + "/x.tar"))
    let names = try await Self.other(self).importImages(descriptor: input.fileDescriptor)
    XCTAssertEqual(names, ["a.org/x:1"])
    _ = FileManager.default.createFile(atPath: work + "/y.tar", contents: nil)
    let out = try FileHandle(forWritingTo: URL(fileURLWithPath: work + "/y.tar"))
    try await store.exportImages([image], descriptor: out.fileDescriptor)
    XCTAssertGreaterThan(try FileManager.default.attributesOfItem(atPath: work + "/y.tar")[.size] as? Int ?? 0, 1000)
    let (bundle, _) = try await store.openBundle(layout.path)
    XCTAssertTrue(try bundle.imagesDirectory().contains("/local/"))
    let root = try await store.assembleRootfs(image, at: work + "/root")
    XCTAssertEqual(root.layers, 4)
    var sized = DiskOptions()
    sized.freeBytes = 8 << 20
    let scratch = try await store.formatDisk(at: work + "/scratch.img", options: sized)
    XCTAssertEqual(scratch.fileSystem, "ext4")
    let squashed = try await store.squashImage(image) { _ in }
    XCTAssertEqual(squashed.sockets, 0)
    let flat = try await store.createDisk(image, at: work + "/flat")
    XCTAssertEqual(flat.format, "raw")
    var overlay = OverlayOptions()
    overlay.tree.whiteouts = .userOverlay
    do {
      _ = try await store.prepareOverlay(image, options: overlay)
    } catch let error as BoxliteError where error.status == .unsupported {}
    // A task that was cancelled before does not begin.
    let late = Task { try await store.assembleRootfs(image, at: work + "/late") }
    late.cancel()
    do {
      _ = try await late.value
      XCTFail("it is not cancelled")
    } catch is CancellationError {}
    XCTAssertFalse(FileManager.default.fileExists(atPath: work + "/late"))
  }

  private static func other(_ test: XCTestCase) throws -> Storage { try BoxliteImagesTests.store(test) }

  private func otherStore() throws -> Storage { try store(self) }
}

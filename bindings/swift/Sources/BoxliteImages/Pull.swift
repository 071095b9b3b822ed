import CBoxliteImages
import Dispatch

/// When a registry is asked.
public enum PullPolicy: Sendable {
  /// When the image is not here, or not all of it.
  case missing
  /// Always; what is here is not fetched again.
  case always
  /// Always; an image that is here is good enough where the registry does not answer.
  case newer
  case never

  var c: UInt32 {
    switch self {
    case .missing: UInt32(BL_PULL_POLICY_MISSING)
    case .always: UInt32(BL_PULL_POLICY_ALWAYS)
    case .newer: UInt32(BL_PULL_POLICY_NEWER)
    case .never: UInt32(BL_PULL_POLICY_NEVER)
    }
  }
}

/// What is special about one registry or mirror.
public struct RegistryOptions: Sendable {
  /// As in references: "ghcr.io", "localhost:5000".
  public var host: String
  public var isPlainHTTP = false
  /// Whoever answers is believed to be it. Not for production.
  public var skipsVerification = false
  /// Files in PEM.
  public var caFile, clientCertificate, clientKey: String?
  /// "Name: value".
  public var headers: [String] = []
  public var mirrors: [String] = []

  public init(host: String) { self.host = host }

  func c(_ arena: Arena) throws -> bl_registry_options {
    var c = bl_registry_options_init()
    c.flags = flags((isPlainHTTP, BL_REGISTRY_PLAIN_HTTP), (skipsVerification, BL_REGISTRY_SKIP_VERIFY))
    c.host = try arena.text(host, "host")
    c.ca_file = try arena.text(caFile, "caFile")
    c.client_certificate = try arena.text(clientCertificate, "clientCertificate")
    c.client_key = try arena.text(clientKey, "clientKey")
    c.headers = try arena.list(headers, "headers")
    c.mirrors = try arena.list(mirrors, "mirrors")
    return c
  }
}

public struct Credentials: Sendable {
  /// "<token>" where the other is an identity token.
  public var user: String
  public var password: String

  public init(user: String, password: String) {
    self.user = user
    self.password = password
  }
}

/// Without the password, wherever it is printed.
extension Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { "Credentials(user: \(user.debugDescription))" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: ["user": user]) }
}

/// How to pull.
public struct PullOptions: Sendable {
  public var policy = PullPolicy.missing
  /// "linux/arm64/v8"; `nil` is Linux on this machine's processor.
  public var platform: String?
  public var isPlatformStrict = false
  /// Whether layers are unpacked; what their trees look like and may cost is in ``tree``.
  public var unpacks = true
  public var tree = TreeOptions()
  /// For the registry of the reference.
  public var credentials: Credentials?
  /// A file of credentials, or with ``usesAuthFiles`` those of other tools.
  public var authFile: String?
  public var usesAuthFiles = false
  public var runsCredentialHelpers = true
  public var registries: [RegistryOptions] = []
  /// A folder of `<registry>/hosts.toml`.
  public var hostsDirectory: String?
  public var asksMirrorsOnly = false
  public var proxy: String?
  public var usesProxyEnvironment = false
  public var userAgent: String?
  /// Layers at a time; `nil` is 4.
  public var parallel: UInt32?
  /// Most bytes of the layers together.
  public var maxBytes: UInt64?
  public var connectTimeout, stallTimeout, timeout: Duration?
  public var progressInterval: Duration?

  public init() {}

  func c(_ arena: Arena) throws -> bl_pull_options {
    var c = bl_pull_options_init()
    c.flags = flags(
      (!unpacks, BL_PULL_NO_UNPACK), (isPlatformStrict, BL_PULL_STRICT_PLATFORM), (usesAuthFiles, BL_PULL_AUTH_FILES),
      (!runsCredentialHelpers, BL_PULL_NO_CREDENTIAL_HELPERS), (usesProxyEnvironment, BL_PULL_PROXY_ENVIRONMENT),
      (asksMirrorsOnly, BL_PULL_MIRRORS_ONLY))
    c.policy = policy.c
    c.parallel = parallel ?? 0
    c.platform = try arena.text(platform, "platform")
    c.user = try arena.text(credentials?.user, "user")
    c.password = try arena.text(credentials?.password, "password")
    c.auth_file = try arena.text(authFile, "authFile")
    let all = arena.pointer(try registries.map { try $0.c(arena) })
    if !registries.isEmpty {
      let pointers: [UnsafePointer<bl_registry_options>?] = registries.indices.map { UnsafePointer(all + $0) } + [nil]
      c.registries = UnsafePointer(arena.pointer(pointers))
    }
    c.hosts_dir = try arena.text(hostsDirectory, "hostsDirectory")
    c.proxy = try arena.text(proxy, "proxy")
    c.tree = tree.c(arena)
    c.user_agent = try arena.text(userAgent, "userAgent")
    c.max_bytes = maxBytes ?? 0
    c.connect_timeout_ms = milliseconds(connectTimeout)
    c.stall_timeout_ms = milliseconds(stallTimeout)
    c.timeout_ms = milliseconds(timeout)
    return c
  }
}

/// How far a pull came.
public struct PullProgress: Sendable {
  public enum Phase: UInt32, Sendable { case resolving, fetching, done }

  public struct Layer: Sendable {
    public let digest: String
    /// Stored, and unpacked where that was asked for.
    public let isDone: Bool
    public let bytes, bytesStored, bytesUnpacked: UInt64
  }

  public let phase: Phase
  public let layersDone: UInt64
  /// Of the layers that were not in the store, and what arrived of them.
  public let bytesToFetch, bytesFetched: UInt64
  public let bytesPresent, bytesUnpacked, entriesUnpacked: UInt64
  /// In the image's order; empty before they are known.
  public let layers: [Layer]

  init(_ c: bl_pull_progress) {
    phase = Phase(rawValue: c.phase) ?? .fetching
    layersDone = c.layers_done
    (bytesToFetch, bytesFetched) = (c.bytes_to_fetch, c.bytes_fetched)
    (bytesPresent, bytesUnpacked, entriesUnpacked) = (c.bytes_present, c.bytes_unpacked, c.entries_unpacked)
    layers = (0..<Int(c.layers)).compactMap { index in
      var layer = bl_layer_progress_init()
      guard bl_pull_layers_get(c.each_layer, index, &layer, nil) == BL_OK else { return nil }
      return Layer(
        digest: string(layer.digest), isDone: layer.is_done != 0, bytes: layer.bytes, bytesStored: layer.bytes_stored,
        bytesUnpacked: layer.bytes_unpacked)
    }
  }
}

/// What to log in with on a host, before it is asked anything; `nil` where there is nothing.
public typealias CredentialsClosure = (_ host: String, _ repository: String) throws -> Credentials?

/// A pull's two closures, of which either may throw.
private final class PullClosures: Callback {
  let progress: ((PullProgress) throws -> Void)?
  let credentials: CredentialsClosure?

  init(_ progress: ((PullProgress) throws -> Void)?, _ credentials: CredentialsClosure?) {
    self.progress = progress
    self.credentials = credentials
  }

  func set(_ c: inout bl_pull_options) {
    if progress != nil {
      c.progress_data = pointer
      c.progress = { progress, data in
        let closures = PullClosures.at(data)
        return closures.contain { try closures.progress?(PullProgress(progress!.pointee)) }
      }
    }
    if credentials != nil {
      c.credentials_data = pointer
      c.credentials = { host, repository, answer, data in
        let closures = PullClosures.at(data)
        return closures.contain {
          guard let found = try closures.credentials?(String(cString: host!), String(cString: repository!)) else { return }
          let (user, password) = (try plain(found.user, "user"), try plain(found.password, "password"))
          try call { bl_credentials_set(answer, user, password, $0) }
        }
      }
    }
  }
}

extension Storage {
  /// Brings an image from a registry: verified, unpacked and named. Closures run on this thread.
  @available(*, noasync, message: "in a task leave out cancel:; at the top level of main.swift call it from an async function")
  public func pull(
    _ reference: String, options: PullOptions = PullOptions(), credentials: CredentialsClosure? = nil,
    cancel: CancelToken? = nil, progress: ((PullProgress) throws -> Void)? = nil
  ) throws -> Image {
    let (arena, closures, reference) = (Arena(), PullClosures(progress, credentials), try plain(reference, "reference"))
    let raw = try handle.use { storage in
      try withExtendedLifetime((arena, cancel)) {
        var c = try options.c(arena)
        c.cancel = cancel?.raw.pointer
        c.progress_interval_ms = milliseconds(options.progressInterval)
        closures.set(&c)
        return try make(closures) { bl_pull(storage, reference, &c, $0, $1) }
      }
    }
    return try Image(taking: raw)
  }

  /// The same for a task, which ends it when it is cancelled.
  public func pull(
    _ reference: String, options: PullOptions = PullOptions(), credentials: (@Sendable (String, String) throws -> Credentials?)? = nil,
    progress: (@Sendable (PullProgress) throws -> Void)? = nil
  ) async throws -> Image {
    try await running {
      try self.pull(reference, options: options, credentials: credentials, cancel: $0, progress: progress)
    }
  }

  /// Starts a pull that runs by itself. The closure is called before this returns.
  public func startPull(
    _ reference: String, options: PullOptions = PullOptions(), credentials: CredentialsClosure? = nil
  ) throws -> PullOperation {
    let (arena, closures, reference) = (Arena(), PullClosures(nil, credentials), try plain(reference, "reference"))
    let raw = try handle.use { storage in
      try withExtendedLifetime(arena) {
        var c = try options.c(arena)
        closures.set(&c)
        return try make(closures) { bl_pull_start(storage, reference, &c, $0, $1) }
      }
    }
    return PullOperation(taking: raw, interval: options.progressInterval ?? .milliseconds(100))
  }
}

/// A pull that runs by itself, and is cancelled when nothing refers to it any more.
///
///     let pull = try storage.startPull("debian:12")
///     for await progress in pull.progress { print(progress.bytesFetched) }
///     let image = try await pull.image
public final class PullOperation: Sendable {
  private let handle: Handle
  private let interval: Duration
  private let result = Locked<Result<Image, any Error>?>(nil)

  init(taking raw: OpaquePointer, interval: Duration) {
    handle = Handle("pull", raw) { bl_op_free($0) }
    self.interval = max(interval, .milliseconds(1))
  }

  /// Ends the pull with ``Status/cancelled``, unless it is over.
  public func cancel() { try? handle.use { bl_op_cancel($0) } }

  /// How far it is at this moment.
  public func currentProgress() throws -> PullProgress {
    try handle.use { op in
      var c = bl_pull_progress_init()
      try call { bl_op_progress(op, &c, $0) }
      return PullProgress(c)
    }
  }

  /// How far it is, every ``PullOptions/progressInterval``, and once more when it is over; then the stream ends. It ends
  /// with the task that reads it, too, and the pull goes on.
  public var progress: AsyncStream<PullProgress> {
    let steps = Locked(Step.first)
    return AsyncStream { [self] in
      switch steps.change({ step in
        defer { if step == .first { step = .later } }
        return step
      }) {
      case .first: break
      case .later: _ = await over(within: interval)
      case .ended: return nil
      }
      if Task.isCancelled { return nil }
      if (try? isOver()) ?? true { steps.change { $0 = .ended } }
      return try? currentProgress()
    }
  }

  private enum Step { case first, later, ended }

  /// The image, when the pull is over. A task that is cancelled while it waits for it ends the pull.
  public var image: Image {
    get async throws {
      try await withTaskCancellationHandler {
        _ = await over(within: nil)
        let result = try result.value ?? handle.use { finish($0) }
        if case .failure(let error as BoxliteError) = result, error.status == .cancelled, Task.isCancelled {
          throw CancellationError()
        }
        return try result.get()
      } onCancel: {
        cancel()
      }
    }
  }

  /// Ends it. Whoever waits for the image is told so.
  public func close() {
    cancel()
    handle.close()
  }

  private func isOver() throws -> Bool { try handle.use { op in try bool { bl_op_wait(op, 0, $0, $1) } } }

  /// How it ended, which C tells once.
  private func finish(_ op: OpaquePointer) -> Result<Image, any Error> {
    result.change { known in
      let result = known ?? Result { try Image(taking: try make { bl_op_finish(op, $0, $1) }) }
      known = result
      return result
    }
  }

  /// Waits for the end without a thread. Also true when the operation was closed.
  private func over(within time: Duration?) async -> Bool {
    guard let isOver = try? isOver(), !isOver else { return true }
    let watch = Watch()
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        do {
          // Not freed, and so the descriptor's, before the sources are done with it.
          nonisolated(unsafe) let op = try handle.enter()
          watch.begin(bl_op_fd(op), within: time) { [self] isOver in
            if isOver { _ = finish(op) }
            handle.leave()
            continuation.resume(returning: isOver)
          }
        } catch {
          continuation.resume(returning: true)
        }
      }
    } onCancel: {
      if time != nil { watch.end() }
    }
  }
}

/// A value that several threads change.
private final class Locked<T>: @unchecked Sendable {
  private let lock = DispatchQueue(label: "boxlite.locked")
  private var inner: T

  init(_ value: T) { inner = value }
  var value: T { lock.sync { inner } }
  @discardableResult func change<R>(_ body: (inout T) throws -> R) rethrows -> R { try lock.sync { try body(&inner) } }
}

/// Waits for a descriptor, or a time, or neither any more.
private final class Watch: @unchecked Sendable {
  private let queue = DispatchQueue(label: "boxlite.watch")
  private let ends = DispatchGroup()
  private var sources: [any DispatchSourceProtocol] = []
  private var done: (@Sendable (Bool) -> Void)?
  private var wasEnded = false

  /// Says once whether the descriptor was readable, when the sources have let it go.
  func begin(_ descriptor: Int32, within time: Duration?, _ done: @escaping @Sendable (Bool) -> Void) {
    queue.async { [self] in
      if wasEnded { return done(false) }
      self.done = done
      let readable = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
      add(readable, true)
      if let time {
        let timer = DispatchSource.makeTimerSource(queue: queue)
        timer.schedule(deadline: .now() + .milliseconds(Int(clamping: milliseconds(time))))
        add(timer, false)
      }
      sources.forEach { $0.activate() }
    }
  }

  func end() {
    queue.async { [self] in
      wasEnded = true
      finish(false)
    }
  }

  private func add(_ source: any DispatchSourceProtocol, _ answer: Bool) {
    ends.enter()
    source.setEventHandler { self.finish(answer) }
    source.setCancelHandler { self.ends.leave() }
    sources.append(source)
  }

  /// On the queue.
  private func finish(_ answer: Bool) {
    guard let done else { return }
    self.done = nil
    sources.forEach { $0.cancel() }
    sources = []
    ends.notify(queue: queue) { done(answer) }
  }
}

# Runs one untrusted program and says how it ended: one JSON object on stdout. The job is one JSON object on stdin.
# The parent (this file's main path) never runs a byte of the program. It forks a child that shuts every door it can find
# (rlimits, no privileges, Landlock, an audit hook) and executes the program there; then it waits, and kills what is left.
# The caller starts it in namespaces of its own where the machine has them.
import json, os, select, signal, sys, time

JOB = json.load(sys.stdin)
LINUX = sys.platform.startswith("linux")

# Events of sys.addaudithook that a program under evaluation has no business with.
REFUSED = (
    "socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "pty.",
    "os.kill", "signal.pthread_kill", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "os.chflags", "os.utime", "os.setxattr", "os.removexattr", "os.lockf", "shutil.", "ctypes.",
    "resource.", "fcntl.", "sqlite3.", "ftplib.", "http.client", "smtplib.", "telnetlib.", "imaplib.", "poplib.",
    "nntplib.", "urllib.", "syslog.", "webbrowser.", "winreg.", "msvcrt.",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def hook(event, args):
    if event == "open":
        if isinstance(args[2], int) and args[2] & WRITING:
            raise PermissionError("refused here: writing files")
    elif event.startswith(REFUSED):
        raise PermissionError("refused here: " + event)


def limit(resource, name, value):
    """Sets one limit for good; some systems lack some limits."""
    what = getattr(resource, name, None)
    if what is None:
        return False
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    try:
        resource.setrlimit(what, (value, value))
        return True
    except (ValueError, OSError):
        return False


def drop_root(libc, ctypes):
    """root is exempt from the limit on processes: become nobody, and keep (on Linux) only the right to read, which a
    Python that lies in root's own folder needs to import its library."""
    if os.getuid() != 0:
        return True
    if libc is not None:
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    try:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    except OSError:
        pass  # root of a user namespace with one user in it: the kernel limits that user as any other
    if libc is None:
        return os.getuid() != 0
    read = 1 << 2  # CAP_DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)(read, read, 0, 0, 0, 0)
    return libc.capset(header, sets) == 0


def landlock(libc, ctypes):
    """From now on no file is made, written, removed or executed, and no TCP socket connected or bound. 0 or the ABI."""
    create, restrict = 444, 446  # the same numbers on every architecture
    abi = libc.syscall(create, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return 0
    files = 0b1_1111_1111_0011  # all of ABI 1 but READ_FILE and READ_DIR
    files |= (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0)  # REFER, TRUNCATE
    attr = (ctypes.c_uint64 * 2)(files, 3 if abi >= 4 else 0)
    ruleset = libc.syscall(create, attr, ctypes.c_size_t(16 if abi >= 4 else 8), 0)
    if ruleset < 0:
        return 0
    done = libc.syscall(restrict, ruleset, 0) == 0
    os.close(ruleset)
    return abi if done else 0


def shut_doors():
    import resource
    libc = ctypes = None
    if LINUX:
        try:
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
        except Exception:
            libc = None
    walls = []
    is_plain = drop_root(libc, ctypes)
    if libc is not None:
        libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: gone when the parent is gone
        if libc.prctl(38, 1, 0, 0, 0) == 0:  # PR_SET_NO_NEW_PRIVS
            walls.append("no-new-privileges")
        abi = landlock(libc, ctypes)
        if abi:
            walls.append("landlock-%d" % abi)
    limit(resource, "RLIMIT_CORE", 0)
    limit(resource, "RLIMIT_FSIZE", 0)
    limit(resource, "RLIMIT_NOFILE", 64)
    walls += ["cpu-limit"] if limit(resource, "RLIMIT_CPU", JOB["cpu_s"]) else []
    walls += ["process-limit"] if limit(resource, "RLIMIT_NPROC", 0) and is_plain else []
    # Last, for what was imported above counts too.
    walls += ["memory-limit"] if limit(resource, "RLIMIT_AS", JOB["memory_bytes"]) else []
    return walls


def where(error):
    line, trace = None, error.__traceback__
    for _ in range(64):
        if trace is None:
            break
        if trace.tb_frame.f_code.co_filename == "answer.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else " (line %d)" % line


def describe(error):
    try:
        text = str(error)[:500]
    except BaseException:
        text = ""
    return type(error).__name__[:100] + (": " + text if text else "") + where(error)


def execute():
    import types
    try:
        code = compile(JOB["program"], "answer.py", "exec", dont_inherit=True)
    except MemoryError:
        return "memory", "the compiler ran out of memory"
    except BaseException as error:
        return "syntax", describe(error)
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["answer.py"]
    try:
        exec(code, main.__dict__)
    except AssertionError as error:
        return "assertion", describe(error)
    except MemoryError as error:
        return "memory", describe(error)
    except SystemExit as error:
        return "exit", "the program ended itself before the tests were done" + where(error)
    except BaseException as error:
        return "exception", describe(error)
    return "passed", ""


def child(pipe):
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    out = 3
    if pipe != out:
        os.dup2(pipe, out)
    os.closerange(4, 256)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    write, dumps, leave = os.write, json.dumps, os._exit
    try:
        walls = shut_doors()
        if JOB["hook"]:
            sys.addaudithook(hook)
            walls.append("audit-hook")
        write(out, (dumps({"walls": walls}) + "\n").encode())
        kind, detail = execute()
    except BaseException as error:
        kind, detail = "exception", type(error).__name__
    try:
        write(out, (dumps({"kind": kind, "detail": detail}) + "\n").encode())
    finally:
        leave(0)


def reap(pid):
    """Kills the child's group and everything that outlived it (in a PID namespace nothing else is left either)."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass
    return os.waitpid(pid, 0)[1]


def parent(pid, pipe):
    end, said, is_late = time.monotonic() + JOB["wall_s"], b"", False
    while len(said) < 65536:
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            is_late = True
            break
        more = os.read(pipe, 4096)
        if not more:
            break
        said += more
    # The pipe is closed: the child is gone or about to go. Its own end tells more than our SIGKILL would.
    status, done = 0, 0
    while not is_late and not done and time.monotonic() < end + 1:
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            time.sleep(0.002)
    if not done:
        status = reap(pid)
    else:
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
    return verdict(said, status, is_late)


def verdict(said, status, is_late):
    walls, kind, detail = [], None, ""
    for line in said.split(b"\n"):
        try:
            fact = json.loads(line)
            walls = fact.get("walls", walls)
            kind, detail = fact.get("kind", kind), fact.get("detail", detail)
        except (ValueError, AttributeError):
            pass
    number = status & 127
    if is_late:
        kind, detail = "timeout", "still running after %g s" % JOB["wall_s"]
    elif kind is None and number in (signal.SIGXCPU, signal.SIGKILL):
        kind, detail = "timeout", "used its %d s of processor time" % JOB["cpu_s"]
    elif kind is None and number:
        kind, detail = "exit", "ended by signal %d" % number
    elif kind is None:
        kind, detail = "exit", "the program ended itself before the tests were done"
    return {"kind": kind, "detail": detail, "walls": walls}


def main():
    if LINUX:
        try:
            import ctypes
            ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        except Exception:
            pass
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(writing)
    os.close(writing)
    print(json.dumps(parent(pid, reading)), flush=True)


main()

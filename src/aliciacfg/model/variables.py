"""Environment variables that do more than hold a value for the program that reads them.

Who may change a configuration must not thereby run programs of their own in the service that takes its environment from
it, so no configuration sets these.
"""

# The loader, shells, interpreters and version control run, or load, what these name. Most of glibc's are those that the
# loader itself ignores in programs that run with more rights than their user.
_TAKES_OVER = frozenset(
    {
        "PATH", "HOME", "SHELL", "ENV", "IFS", "CDPATH", "FPATH", "ZDOTDIR", "SHELLOPTS", "BASHOPTS", "GLOBIGNORE",
        "EXECIGNORE", "INPUTRC", "PROMPT_COMMAND", "PS0", "PS1", "PS2", "PS3", "PS4", "EDITOR", "VISUAL", "PAGER",
        "MANPAGER", "BROWSER", "LESS", "LESSOPEN", "LESSCLOSE", "SSH_ASKPASS", "SUDO_ASKPASS", "GCONV_PATH",
        "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "NIS_PATH", "NLSPATH",
        "RESOLV_HOST_CONF", "RES_OPTIONS", "TZDIR", "TERMCAP", "TERMINFO", "TERMINFO_DIRS", "TERMPATH",
        "NODE_OPTIONS", "NODE_PATH", "NODE_REPL_EXTERNAL_MODULE", "NODE_EXTRA_CA_CERTS",
        "NODE_TLS_REJECT_UNAUTHORIZED", "JAVA_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS",
        "CLASSPATH", "MAVEN_OPTS", "GRADLE_OPTS", "CATALINA_OPTS", "JVM_OPTS", "PHPRC", "PHP_INI_SCAN_DIR",
        "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES", "OPENSSL_CONF_INCLUDE", "SSLKEYLOGFILE", "GTK_MODULES",
        "GTK_PATH", "GIO_EXTRA_MODULES", "GIO_MODULE_DIR", "QT_PLUGIN_PATH", "QML_IMPORT_PATH", "KUBECONFIG",
        "DOCKER_HOST",
    }
)  # fmt: skip
_TAKES_OVER_PREFIXES = (
    "LD_", "DYLD_", "BASH_", "MALLOC_", "PYTHON", "PERL5", "PERLLIB", "PERL_", "RUBYOPT", "RUBYLIB", "LUA_", "ERL_",
    "GIT_", "DOTNET_", "CORECLR_", "COR_", "COMPLUS_", "GST_PLUGIN", "R_PROFILE", "R_ENVIRON", "R_LIBS",
)  # fmt: skip
# These lead connections and temporary files elsewhere, which an administrator may want.
_REDIRECTS = frozenset(
    {
        "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "TMPDIR", "TMP",
        "TEMP",
    }
)  # fmt: skip


def takes_over(name: str) -> bool:
    """Return whether a variable makes programs run or load what it names."""
    upper = name.upper()
    return upper in _TAKES_OVER or upper.startswith(_TAKES_OVER_PREFIXES)


def redirects(name: str) -> bool:
    """Return whether a variable makes programs trust or ask another peer, or write elsewhere."""
    return name.upper() in _REDIRECTS

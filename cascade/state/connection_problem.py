"""Why a store cannot be reached, in words that quote no address and no password."""

import ssl


def connection_problem(error: BaseException | str) -> str:
    """What is wrong with the certificate of a store, where that is it; otherwise the error's class.

    Drivers quote addresses in their texts, so that these are not shown.
    """
    if isinstance(error, str):
        return error
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            remedy = (
                "" if "expired" in seen.verify_message else "; name its authority in the URL: ?ssl_ca_certs=/path/ca.pem"
            )
            if "ostname mismatch" in seen.verify_message or "IP address mismatch" in seen.verify_message:
                remedy = "; write the name that the certificate has"
            return f"its certificate is refused: {seen.verify_message.rstrip('.')}{remedy}"
        if isinstance(seen, ssl.SSLError):
            return f"no TLS connection ({seen.reason or type(seen).__name__}); without TLS the URL begins with redis://"
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__

declare module "tweetnacl-sealedbox-js" {
  const sealedbox: {
    /** Return the sealed box (libsodium `crypto_box_seal`) of a message for the owner of an X25519 public key. */
    seal(message: Uint8Array, publicKey: Uint8Array): Uint8Array;
    /** Return the message of a sealed box; null if it does not open with these keys. */
    open(box: Uint8Array, publicKey: Uint8Array, secretKey: Uint8Array): Uint8Array | null;
  };
  export default sealedbox;
}
